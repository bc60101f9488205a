"""Reads a task suite that is a YAML file naming Hugging Face datasets."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from gradsift.components.shared.data.prepared_data import Split
from gradsift.components.shared.data.suites.suite_manifest import HubTask, Manifest, parse_manifest
from gradsift.components.shared.data.suites.task import RowReader, Task, check_labels
from gradsift.components.shared.documents.yaml_document import MAX_YAML_BYTES, load_yaml
from gradsift.components.shared.errors import InputError, shown_names
from gradsift.components.shared.storage.bounded_reading import read_file
from gradsift.components.shared.storage.storage import open_storage

if TYPE_CHECKING:
    from datasets import Dataset


class HubSuite:
    """A suite of named Hugging Face datasets.

    Attributes:
        where: address of the YAML file.
        manifest: what it says.
    """

    def __init__(self, uri: str) -> None:
        """Read the YAML file, which is local or in S3.

        Raises:
            InputError: it is not what was expected.
            StorageError: it cannot be read.
        """
        folder, slash, name = uri.rpartition("/")
        self.where = uri
        content = read_file(open_storage(folder or slash or "."), name, MAX_YAML_BYTES)
        document = load_yaml(content, uri, "a suite in YAML")
        self.manifest = parse_manifest(Manifest[HubTask], document, uri)

    def read(self, entry: HubTask, splits: Collection[Split]) -> Task:
        """Return the task with those of the `splits` that it names.

        Raises:
            InputError: a dataset, split or column cannot be read, or a row is not what was expected.
        """
        data = {split: self._load(entry, split) for split in splits if split in entry.splits}
        labels = (entry.labels or self._feature_labels(entry, data)) if entry.labelled else {}
        if entry.labelled:
            check_labels(self._place(entry), labels)
        reader = RowReader(labels, _group_field(entry))
        return Task(
            name=entry.name,
            labels=list(labels.values()),
            splits={split: reader.rows(_records(entry, split, dataset)) for split, dataset in data.items()},
            licence=entry.licence,
        )

    def _load(self, entry: HubTask, split: Split) -> "Dataset":
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError

        try:
            dataset = load_dataset(
                entry.dataset, entry.config, split=entry.splits[split], revision=entry.revision
            )
        except (DatasetsError, OSError, ValueError) as error:
            reason = _one_line(error.__cause__ or error)
            raise InputError(
                f"{self._place(entry)}: split {entry.splits[split]!r} of the dataset {entry.dataset!r} "
                f"cannot be loaded, expected a dataset on the hub or a local folder ({reason})."
            ) from error
        for field, column in entry.columns.items():
            if column not in dataset.column_names:
                raise InputError(
                    f"{self._place(entry)}, field {field!r}: the dataset {entry.dataset!r} has no column "
                    f"{column!r}, expected one of {shown_names(dataset.column_names)}."
                )
        return dataset

    def _feature_labels(self, entry: HubTask, data: dict[Split, "Dataset"]) -> dict[str, str]:
        for dataset in data.values():
            names = getattr(dataset.features[entry.label], "names", None)
            if names:
                return {str(index): name for index, name in enumerate(names)}
        raise InputError(
            f"{self._place(entry)}, field 'labels' is missing and column {entry.label!r} of the dataset "
            f"{entry.dataset!r} names no labels: expected words for each label id."
        )

    def _place(self, entry: HubTask) -> str:
        return f"{self.where}: task {entry.name!r}"


def _records(entry: HubTask, split: Split, dataset: "Dataset") -> Iterator[tuple[str, dict[str, Any]]]:
    place = f"Dataset {entry.dataset!r}, split {entry.splits[split]!r}"
    field = _group_field(entry)
    column = entry.columns.get(field)
    names = getattr(dataset.features[column], "names", None) if column else None
    for number, row in enumerate(dataset, start=1):
        record = {field: row[column] for field, column in entry.columns.items()}
        if names and record[field] in range(len(names)):
            record[field] = names[record[field]]
        yield f"{place}, row {number}", {"id": f"{entry.name}-{split}-{number}", **record}


def _group_field(entry: HubTask) -> str:
    return "group_by" if entry.group_by else "group"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
