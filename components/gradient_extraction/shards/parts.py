"""How an extraction is divided among pods: its parts, the shards of each, and the record of a finished part."""

from dataclasses import dataclass

from pydantic import ValidationError

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import GradientStoreError, NotFoundError
from gradsift.components.shared.gradient_store.gradient_format import ShardRecord, StoreHeader
from gradsift.components.shared.gradient_store.gradient_store import Split
from gradsift.components.shared.records.results import Record
from gradsift.components.shared.storage.addresses import join_uri
from gradsift.components.shared.storage.storage import open_storage

FOLDER = "gradient_extraction_parts"


@dataclass(frozen=True)
class Part:
    """One of the parts that an extraction is divided into: every such shard, beginning with one of them.

    Attributes:
        number: from 0.
        of: how many parts there are.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number} of {self.of}"


@dataclass(frozen=True)
class ShardPlan:
    """Which rows a shard holds."""

    task: str
    split: Split
    index: int
    start: int
    stop: int


def shard_plans(data: PreparedData, shard_rows: int) -> list[ShardPlan]:
    """Return every shard of the store in order: train rows of all tasks, then the target's validation rows."""
    splits: list[tuple[str, Split]] = [(task.name, "train") for task in data.tasks]
    splits.append((data.target, "val"))
    return [
        ShardPlan(task, split, index, start, min(start + shard_rows, data.task(task).rows[split]))
        for task, split in splits
        for index, start in enumerate(range(0, data.task(task).rows[split], shard_rows))
    ]


def shards_of_part(data: PreparedData, shard_rows: int, part: Part) -> list[ShardPlan]:
    """Return the shards of one part, in order."""
    return shard_plans(data, shard_rows)[part.number :: part.of]


class StorePart(Record):
    """What a part has written of one store.

    Attributes:
        uri: where the store is.
        header: the store's header, the same from every part.
        shards: the part's shards, in order.
        reused: whether the store was finished before.
    """

    uri: str
    header: StoreHeader
    shards: list[ShardRecord]
    reused: bool


class PartRecord(Record):
    """What a part has written: of the store at theta*, and of that at the pretrained weights if there is one."""

    stores: list[StorePart]


def write_part(root_uri: str, key: str, part: Part, record: PartRecord) -> None:
    """Keep the record of a finished part under the run root; `key` tells the extraction from others."""
    open_storage(join_uri(root_uri, FOLDER, key)).write(_name(part), record.model_dump_json().encode())


def read_part(root_uri: str, key: str, part: Part) -> PartRecord:
    """Return the record of a finished part.

    Raises:
        NotFoundError: the part is not finished.
        GradientStoreError: the record was altered.
    """
    folder = join_uri(root_uri, FOLDER, key)
    try:
        return PartRecord.model_validate_json(open_storage(folder).read(_name(part)))
    except NotFoundError as error:
        raise NotFoundError(
            f"Part {part} of the extraction is not finished: {join_uri(folder, _name(part))} does not exist."
        ) from error
    except ValidationError as error:
        raise GradientStoreError(
            f"{join_uri(folder, _name(part))} is not the record of a part of an extraction: delete {folder}."
        ) from error


def _name(part: Part) -> str:
    return f"{part.number}-of-{part.of}.json"
