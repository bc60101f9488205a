"""The choice as files that other trainers read: the chosen rows, and each trainer's way to name them.

`mixture/data/<task>.jsonl` holds the train rows of the target and of every selected task as `prompt` and
`completion`: the texts that a language model is trained on in the plain form, whole (see `shared.prompt_format`).
Paths are relative to `mixture/`, except LLaMA-Factory's, which are relative to its `dataset_dir`, the same folder.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import INDEX, PreparedData, PreparedTask
from gradsift.components.shared.models.prompt_format import questions
from gradsift.components.shared.storage.local import atomic_file

FOLDER = "mixture"
PROMPT, COMPLETION = "prompt", "completion"


def write_mixture(folder: Path, data: StepOutput, selected: list[str]) -> None:
    """Write the rows of the target and the selected tasks and their mixture files into `folder/mixture`.

    Args:
        folder: the step's output.
        data: the prepared data; only train splits are read.
        selected: the selected auxiliary tasks.

    Raises:
        InputError: the prepared data has no such task.
        StorageError: a file of the prepared data is missing or altered.
    """
    prepared = PreparedData(fetch(data, [INDEX]))
    tasks = [prepared.task(name) for name in (prepared.target, *selected)]
    source = fetch(data, [_train_file(task) for task in tasks])
    mixture = folder / FOLDER
    for task in tasks:
        rows = _rows(source / _train_file(task), task.labels)
        _write(mixture / _data_file(task), (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    _write(mixture / "mixture.json", _json(_plain(prepared, tasks)))
    _write(mixture / "trl_mixture.yaml", _yaml(trl_mixture(tasks)))
    _write(mixture / "axolotl.yaml", _yaml(axolotl_datasets(tasks)))
    _write(mixture / "dataset_info.json", _json(llama_factory_datasets(tasks)))


def trl_mixture(tasks: list[PreparedTask]) -> dict[str, Any]:
    """Return TRL's `DatasetMixtureConfig`, a part of the file for `trl sft --config`."""
    return {
        "datasets": [
            {
                "path": "json",
                "data_files": _data_file(task),
                "split": "train",
                "columns": [PROMPT, COMPLETION],
            }
            for task in tasks
        ]
    }


def axolotl_datasets(tasks: list[PreparedTask]) -> dict[str, Any]:
    """Return axolotl's `datasets`, a part of its configuration, with a prompt type of its own for each."""
    return {
        "datasets": [
            {
                "path": _data_file(task),
                "ds_type": "json",
                "type": {
                    "system_prompt": "",
                    "field_instruction": PROMPT,
                    "field_output": COMPLETION,
                    "format": "{instruction}",
                    "no_input_format": "{instruction}",
                },
            }
            for task in tasks
        ]
    }


def llama_factory_datasets(tasks: list[PreparedTask]) -> dict[str, Any]:
    """Return LLaMA-Factory's `dataset_info.json`, which it reads from its `dataset_dir`."""
    return {
        task.name: {
            "file_name": _data_file(task),
            "formatting": "alpaca",
            "columns": {"prompt": PROMPT, "response": COMPLETION},
        }
        for task in tasks
    }


def _plain(prepared: PreparedData, tasks: list[PreparedTask]) -> dict[str, Any]:
    total = sum(task.rows["train"] for task in tasks)
    return {
        "suite": prepared.suite,
        "target": prepared.target,
        "rows": total,
        "tasks": [
            {
                "name": task.name,
                "rows": task.rows["train"],
                "share": task.rows["train"] / total,
                "licence": task.licence,
                "file": _data_file(task),
            }
            for task in tasks
        ],
    }


def _rows(path: Path, labels: list[str]) -> Iterator[dict[str, str]]:
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            for question in questions(batch.to_pydict(), labels):
                yield {PROMPT: question.prompt, COMPLETION: question.completion}


def _train_file(task: PreparedTask) -> str:
    return f"{task.name}/train.arrow"


def _data_file(task: PreparedTask) -> str:
    return f"data/{task.name}.jsonl"


def _json(content: Any) -> list[str]:
    return [json.dumps(content, indent=1, ensure_ascii=False), "\n"]


def _yaml(content: Any) -> list[str]:
    return [yaml.safe_dump(content, sort_keys=False, allow_unicode=True)]


def _write(path: Path, lines: Iterable[str]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(lines)
