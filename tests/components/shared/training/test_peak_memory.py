"""A real language model is trained on long rows, and answers others, within 4 GiB of a CPU's memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradsift.components.shared.data.prepared_data import PreparedTask, write_index, write_split

TOKENS, ROWS = 512, 32
TEXT = "the ship left its harbour in the early morning and nobody on board knew why"

TRAINING = """
import json, resource, sys
from pathlib import Path
from gradsift.components.shared.models.packaged_smollm2 import PACKAGED_SMOLLM2
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.job import TrainingJob
from gradsift.components.shared.training.training import train

folder, rows, tokens = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
model = ModelConfig(base_model=PACKAGED_SMOLLM2, max_length=tokens, lora_rank=8)
recipe = TrainingRecipe(steps=1, batch_size=rows, precision=sys.argv[4], processes=1)
job = TrainingJob(folder / "model", folder / "data", ["long"], model, recipe, measured=("val",))
with track_step("meta_training", str(folder / "root"), {}) as tracker:
    [result] = train([job], folder / "work", tracker)
kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({**result, "gib": kib / 2**20}))
"""


def long_row(split: str, row: int) -> dict[str, Any]:
    """Half of the tokens are answered; the prompt is cut to what is left of them."""
    words = TEXT.split()[row % 5 :] * (TOKENS // 8)
    return {
        "id": f"{split}-{row}",
        "prompt": " ".join(words),
        "completion": " ".join(words[: TOKENS // 2]),
        "rationale": None,
    }


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_adapters_of_smollm2_on_rows_of_512_tokens(tmp_path: Path, precision: str) -> None:
    sizes: dict[Any, int] = {"train": ROWS, "val": 8}
    for split, count in sizes.items():
        rows = [long_row(split, row) for row in range(count)]
        write_split(tmp_path / "data", "long", split, rows, "generation")
    task = PreparedTask(name="long", kind="generation", labels=[], rows=sizes)
    write_index(tmp_path / "data", "long rows", "long", [task])
    command = [sys.executable, "-c", TRAINING, str(tmp_path), str(ROWS), str(TOKENS), precision]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
    assert (found["tokens"], found["padding"]) == (ROWS * TOKENS, 0)
    assert found["gib"] < 4
