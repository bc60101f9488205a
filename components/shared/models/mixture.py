"""The choice as files that other trainers read: the chosen rows, and each trainer's way to name them.

`mixture/data/<task>.jsonl` holds the train rows of the target and of every selected task as `prompt` and
`completion`: the texts that a language model is trained on in the plain form, whole (see `shared.prompt_format`).
Where one of the tasks has conversations, every row of all of them is a conversation, `messages`. Where the last
answers alone are learned, the messages say which to `train` on, and stand as `prompt` and `completion` beside.
Paths are relative to `mixture/`, except LLaMA-Factory's, which are relative to its `dataset_dir`, the same folder.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import yaml

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import (
    ALL_TURNS,
    INDEX,
    PreparedData,
    PreparedTask,
    has_conversations,
)
from gradsift.components.shared.models.prompt_format import Question, questions
from gradsift.components.shared.storage.local import atomic_file

FOLDER = "mixture"
READ_ROWS = 1000
"""Rows that are read at a time."""
PROMPT, COMPLETION, MESSAGES, TRAIN = "prompt", "completion", "messages", "train"
RowForm = Literal["texts", "last_answers", "all_answers"]
"""What rows are: prompts and completions, or conversations of which the last or all answers are learned."""


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
    fetch(data, [file for task in tasks for file in task.files("train")])
    mixture = folder / FOLDER
    form = _row_form(prepared, tasks)
    for task in tasks:
        rows = (_row(question, form) for question in _questions(prepared, task))
        _write(mixture / _data_file(task), (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    _write(mixture / "mixture.json", _json(_plain(prepared, tasks)))
    _write(mixture / "trl_mixture.yaml", _yaml(trl_mixture(tasks, form)))
    _write(mixture / "axolotl.yaml", _yaml(axolotl_datasets(tasks, form)))
    _write(mixture / "dataset_info.json", _json(llama_factory_datasets(tasks, form)))


def trl_mixture(tasks: list[PreparedTask], form: RowForm) -> dict[str, Any]:
    """Return TRL's `DatasetMixtureConfig`, a part of the file for `trl sft --config`.

    TRL learns completions alone where rows have them, and where asked to the assistant's answers alone.
    """
    datasets = [
        {
            "path": "json",
            "data_files": _data_file(task),
            "split": "train",
            "columns": [MESSAGES] if form == "all_answers" else [PROMPT, COMPLETION],
        }
        for task in tasks
    ]
    return {"datasets": datasets, **({"assistant_only_loss": True} if form == "all_answers" else {})}


def axolotl_datasets(tasks: list[PreparedTask], form: RowForm) -> dict[str, Any]:
    """Return axolotl's `datasets`, a part of its configuration, with the form of prompts of each."""
    own_prompts = {
        "type": {
            "system_prompt": "",
            "field_instruction": PROMPT,
            "field_output": COMPLETION,
            "format": "{instruction}",
            "no_input_format": "{instruction}",
        }
    }
    by_template = {"type": "chat_template", "field_messages": MESSAGES, "roles_to_train": ["assistant"]}
    forms: dict[RowForm, dict[str, Any]] = {
        "texts": own_prompts,
        "last_answers": {**by_template, "message_field_training": TRAIN},
        "all_answers": by_template,
    }
    return {"datasets": [{"path": _data_file(task), "ds_type": "json", **forms[form]} for task in tasks]}


def llama_factory_datasets(tasks: list[PreparedTask], form: RowForm) -> dict[str, Any]:
    """Return LLaMA-Factory's `dataset_info.json`, which it reads from its `dataset_dir`."""
    described: dict[str, Any] = {
        "formatting": "alpaca",
        "columns": {"prompt": PROMPT, "response": COMPLETION},
    }
    if form != "texts":
        roles = ("user", "assistant", "system")
        described = {
            "formatting": "sharegpt",
            "columns": {"messages": MESSAGES},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                **{f"{role}_tag": role for role in roles},
            },
        }
    return {task.name: {"file_name": _data_file(task), **described} for task in tasks}


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


def _row_form(data: PreparedData, tasks: list[PreparedTask]) -> RowForm:
    form: RowForm = "texts"
    for task in tasks:
        for batch in _batches(data, task):
            if has_conversations(batch):
                form = "last_answers" if form == "texts" else form
                if any(batch[ALL_TURNS]):
                    return "all_answers"
    return form


def _questions(data: PreparedData, task: PreparedTask) -> Iterator[Question]:
    for batch in _batches(data, task):
        yield from questions(batch, task.labels)


def _batches(data: PreparedData, task: PreparedTask) -> Iterator[dict[str, list[Any]]]:
    yield from data.split(task.name, "train").iter(READ_ROWS)


def _row(question: Question, form: RowForm) -> dict[str, Any]:
    if form == "texts":
        return {PROMPT: question.prompt, COMPLETION: question.completion}
    answer = {"role": "assistant", "content": question.answer}
    if form == "all_answers":
        return {MESSAGES: [*question.asked, answer]}
    asked = [{**message, TRAIN: False} for message in question.asked]
    return {
        MESSAGES: [*asked, {**answer, TRAIN: True}],
        PROMPT: question.asked,
        COMPLETION: [answer],
    }


def _data_file(task: PreparedTask) -> str:
    return f"data/{task.name}.jsonl"


def _json(content: Any) -> list[str]:
    return [json.dumps(content, indent=1, ensure_ascii=False), "\n"]


def _yaml(content: Any) -> list[str]:
    return [yaml.safe_dump(content, sort_keys=False, allow_unicode=True)]


def _write(path: Path, lines: Iterable[str]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(lines)
