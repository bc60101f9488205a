"""What result files are made of: immutable records, written and read as JSON."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.storage.local import LocalStorage

NonNegative = Annotated[FiniteFloat, Field(ge=0)]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class Record(BaseModel):
    """Immutable, without unknown fields: a misspelt field is an error, not a lost value."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ResultFile(Record):
    """A record that is a JSON file of its own."""

    FILE: ClassVar[str]

    def write(self, folder: Path) -> None:
        """Write the file into `folder`, whole or not at all."""
        LocalStorage(folder).write(self.FILE, self.model_dump_json(indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the file from `folder`.

        Raises:
            StorageError: the file is missing.
            InputError: the file is not valid; the message names the first wrong field.
        """
        content = LocalStorage(folder).read(cls.FILE)
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise invalid_file(str(folder / cls.FILE), error) from error


def invalid_file(where: str, error: ValidationError) -> InputError:
    """Return an error that names the first wrong field of a file."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "the file"
    return InputError(f"{where} is not valid at {field}: {first['msg']}.")
