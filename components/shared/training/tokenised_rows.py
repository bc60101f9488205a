"""Tokenised train rows: made once, in Arrow files beside the prepared data, which all processes map into memory.

They lie at `<prepared data>.tokenised/<key>/<task>.arrow`; those of parts of a task are read from the task's
file. The key is a digest of all that decides a row's tokens beside the row, so files of another model or of older
code are never read. Deleting them costs time alone.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gradsift.components.shared.artifacts.step_code import module_digest
from gradsift.components.shared.artifacts.step_output import digest_of, file_digest
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models import model_loading
from gradsift.components.shared.models.task_model import Rows, TaskModel

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

BATCH_ROWS = 1000
"""Rows that are tokenised at a time."""


def tokenised_rows(model: TaskModel, data: PreparedData, tasks: list[str]) -> "Dataset":
    """Return the train rows of these tasks, one task after the other, as the model's `encode` gives them.

    Tasks that no call has tokenised yet are tokenised now. Calls at the same time do not disturb each other.

    Raises:
        InputError: a task has no train rows, or a row does not fit the model.
    """
    from datasets import concatenate_datasets

    folder = data.folder.with_name(f"{data.folder.name}.tokenised") / _key(model)
    folder.mkdir(parents=True, exist_ok=True)
    return concatenate_datasets([_tokenised(model, data, task, folder) for task in tasks])


def _tokenised(model: TaskModel, data: PreparedData, task: str, folder: Path) -> "Dataset":
    rows, whole = data.whole_split(task, "train"), data.task(task).whole

    def columns(batch: Rows) -> dict[str, list[Any]]:
        examples = model.encode(batch, whole)
        return {name: [example[name] for example in examples] for name in examples[0]}

    tokenised = rows.map(
        columns,
        batched=True,
        batch_size=BATCH_ROWS,
        remove_columns=rows.column_names,
        cache_file_name=str(folder / f"{whole}.arrow"),
        load_from_cache_file=True,
        new_fingerprint=digest_of([str(folder), whole]),
    )
    places = data.places(task, "train")
    return tokenised if places is None else tokenised.select(places)


def _key(model: TaskModel) -> str:
    code = module_digest(model_loading.__name__)
    return digest_of([code, model.encoding, _tokenizer_digest(model.tokenizer)])[:16]


def _tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    if tokenizer.is_fast:  # else the files would say how the last texts were cut and padded
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return digest_of({path.relative_to(folder).as_posix(): file_digest(path) for path in files})
