"""How fast a language model is trained with adapters: by gradsift's own training process, and by TRL's SFTTrainer.

Both get the same model, the same tokens, and the same recipe: adapters, optimizer, learning rate, rows of a step
and of a micro-batch, precision and threads. Nothing is packed. Each training has a process of its own; the first
step, which warms up, does not count.
"""

import gzip
import itertools
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gradsift.components.shared.data import suites
from gradsift.components.shared.data.prepared_data import PreparedTask, write_index, write_split
from gradsift.components.shared.models.packaged_smollm2 import PACKAGED_SMOLLM2
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Precision, TrainingRecipe

TASK, MAX_LENGTH, BATCH = "dbpedia", 128, 8
MODEL = ModelConfig(base_model=PACKAGED_SMOLLM2, max_length=MAX_LENGTH, lora_rank=8, lora_alpha=16)
GRADSIFT, TRL = "gradsift", "TRL's SFTTrainer"


def recipe_of(steps: int, precision: Precision) -> TrainingRecipe:
    """Return the recipe of so many steps that count, after one that warms up."""
    return TrainingRecipe(
        steps=1 + steps,
        batch_size=BATCH,
        learning_rate=1e-4,
        precision=precision,
        gradient_checkpointing="off",
        processes=1,
    )


def write_texts(folder: Path, rows: int) -> None:
    """Write prepared data of real texts of natural length, whose first half asks for the second."""
    file = Path(suites.__file__).parent / "demo_suite" / f"{TASK}.train.jsonl.gz"
    with gzip.open(file, "rt") as lines:
        texts = [json.loads(line)["text"].split() for line in itertools.islice(lines, rows)]
    halves = [
        {
            "id": str(row),
            "prompt": " ".join(words[: len(words) // 2]),
            "completion": " ".join(words[len(words) // 2 :]),
            "rationale": None,
        }
        for row, words in enumerate(texts)
    ]
    write_split(folder, TASK, "train", halves, "generation")
    write_index(
        folder, TASK, TASK, [PreparedTask(name=TASK, kind="generation", labels=[], rows={"train": rows})]
    )


def rate(library: str, recipe: TrainingRecipe, threads: int) -> dict[str, float]:
    """Return how many rows a training takes per second, and per second of its CPU time."""
    ways = {GRADSIFT: _by_gradsift, TRL: _by_trl}
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "DS_ACCELERATOR": "cpu",
        "TOKENIZERS_PARALLELISM": "false",
        **({} if library == TRL else _one_process()),
    }
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        with get_context("spawn").Pool(1) as pool:
            return pool.apply(_timed, (ways[library], recipe))
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _one_process() -> dict[str, str]:
    """Return the environment that `torchrun` gives its only process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    return {**group, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def _timed(way: Callable[[Path, TrainingRecipe, Any], int], recipe: TrainingRecipe) -> dict[str, float]:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """The times at which steps ended."""

        def __init__(self) -> None:
            self.wall: list[float] = []
            self.cpu: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        write_texts(Path(folder) / "data", recipe.steps * recipe.batch_size)
        at_once = way(Path(folder), recipe, clock)
    rows = (recipe.steps - 1) * recipe.batch_size
    return {
        "rows_per_second": rows / (clock.wall[-1] - clock.wall[0]),
        "rows_per_CPU_second": rows / (clock.cpu[-1] - clock.cpu[0]),
        "rows_at_once": at_once,
    }


def _by_gradsift(folder: Path, recipe: TrainingRecipe, clock: Any) -> int:
    from gradsift.components.shared.training.deepspeed_compat import use_gloo_between_cpu_processes
    from gradsift.components.shared.training.job import RESULT, TrainingJob
    from gradsift.components.shared.training.worker import train_one

    use_gloo_between_cpu_processes()
    job = TrainingJob(folder / "model", folder / "data", [TASK], MODEL, recipe, keep_model=False)
    train_one(job, folder / "checkpoints", clock, lambda rows: None, None)
    result: dict[str, int] = json.loads((job.folder / RESULT).read_text())
    return result["micro_batch_size"]


def _by_trl(folder: Path, recipe: TrainingRecipe, clock: Any) -> int:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from gradsift.components.shared.data.prepared_data import PreparedData
    from gradsift.components.shared.models.labels import NO_ANSWER, last_answer
    from gradsift.components.shared.models.language_model import LanguageModel
    from gradsift.components.shared.models.model_loading import from_base
    from gradsift.components.shared.models.precision import resolve_precision
    from gradsift.components.shared.training.micro_batches import parts_on_cpu

    data = PreparedData(folder / "data")
    model = from_base(MODEL, data)
    assert isinstance(model, LanguageModel)
    rows = []
    for example in model.encode(data.split(TASK, "train"), TASK):
        ids = example["input_ids"] + last_answer(example["label"])
        rows.append({"input_ids": ids, "labels": [NO_ANSWER] * len(example["input_ids"]) + example["label"]})
    at_once = recipe.rows_at_once(1, parts_on_cpu(model, recipe.batch_size, MAX_LENGTH))
    settings = SFTConfig(
        output_dir=str(folder / "trl"),
        max_steps=recipe.steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=recipe.batch_size // at_once,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_steps=1,
        lr_scheduler_type="linear",
        max_length=None,
        gradient_checkpointing=False,
        bf16=resolve_precision(recipe.precision) == "bf16",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model.lm,
        settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=model.tokenizer,
        callbacks=[clock],
    )
    trainer.train()
    return at_once
