"""A million short train rows on their way to the model: from Arrow files, and from lists, as it once was.

Each way runs in a process of its own. It tokenises all rows, or finds them tokenised, and reads the first rows
of the training's order in batches. Memory is what a process needs beyond its model. Time is that of its CPU.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradsift.components.shared.data.prepared_data import PreparedTask, write_index, write_split

TASKS, ROWS_PER_TASK = 20, 50_000
WORDS = ("a", "fine", "film", "that", "says", "little", "of", "its", "cold", "dull", "plot")
FIRST = "Arrow, the process that tokenises"
OTHER = "Arrow, every other process"
LISTS = "lists, every process"

READING = """
import json, re, sys, time
from pathlib import Path
from torch.utils.data import DataLoader
import datasets
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.training.example_order import example_order, shares_by_size
from gradsift.components.shared.training.tokenised_rows import tokenised_rows

class OrderedExamples:
    def __init__(self, examples, order):
        self.examples, self.order = examples, order
    def __len__(self):
        return len(self.order)
    def __getitem__(self, position):
        return self.examples[self.order[position]]

def megabytes(name):
    return int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6

folder, base, way = sys.argv[1:]
datasets.disable_progress_bars()
data = PreparedData(Path(folder))
model = from_base(ModelConfig(base_model=base), data)
tasks = [task.name for task in data.tasks]
rows = {task: data.task(task).rows["train"] for task in tasks}
list(model.encode(data.split(tasks[0], "train").select(range(10)), tasks[0]))
before, own = megabytes("VmRSS"), megabytes("RssAnon")
start = time.process_time()
order = example_order(rows, shares_by_size(rows, 1.0), sum(rows.values()), 0)
if way.startswith("lists"):
    examples = [example for task in tasks for example in model.encode(data.split(task, "train"), task)]
    examples = OrderedExamples(examples, order.tolist())
else:
    examples = tokenised_rows(model, data, tasks).select(order)
ready = time.process_time() - start
start, read, tokens = time.process_time(), 0, 0
for batch in DataLoader(examples, batch_size=32, collate_fn=model.collate):
    read, tokens = read + len(batch["label"]), tokens + int(batch["attention_mask"].sum())
    if read >= 100_000:
        break
print(json.dumps({
    "rows": way,
    "CPU seconds to first batch": ready,
    "rows read per CPU second": read / (time.process_time() - start),
    "own memory, MB": megabytes("RssAnon") - own,
    "peak memory with mapped files, MB": megabytes("VmHWM") - before,
    "tokens": tokens,
}))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("million") / "prepared"
    for task in range(TASKS):
        rows = [
            {
                "id": str(row),
                "text": " ".join(WORDS[(row * step + task) % len(WORDS)] for step in range(1, 5 + row % 7)),
                "text_pair": None,
                "label": row % 2,
            }
            for row in range(ROWS_PER_TASK)
        ]
        write_split(folder, f"task{task}", "train", rows)
    labels = ["negative", "positive"]
    tasks = [
        PreparedTask(name=f"task{task}", labels=labels, rows={"train": ROWS_PER_TASK})
        for task in range(TASKS)
    ]
    write_index(folder, "million", "task0", tasks)
    yield folder
    shutil.rmtree(folder.parent)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_rows_from_arrow_files_beside_lists(
    benchmark: Any, capsys: pytest.CaptureFixture[str], data: Path, tiny_encoder: Path
) -> None:
    def measure(way: str) -> dict[str, Any]:
        command = [sys.executable, "-c", READING, str(data), str(tiny_encoder), way]
        figures: dict[str, Any] = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        )
        with capsys.disabled():
            print(f"\n{figures}")
        return figures

    found = benchmark.pedantic(lambda: [measure(way) for way in (LISTS, FIRST, OTHER)], rounds=1)
    benchmark.extra_info["rows"] = found
    lists, first, other = found
    assert lists["tokens"] == first["tokens"] == other["tokens"]
    assert first["own memory, MB"] < lists["own memory, MB"] / 4
    assert other["own memory, MB"] < lists["own memory, MB"] / 8
