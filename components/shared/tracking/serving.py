"""How MLflow serves a model: a file in the model's folder says it, so that tracking need not know the model."""

import json
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from gradsift.components.shared.storage.local import LocalStorage, atomic_file

FILE = "serving.json"


@dataclass(frozen=True)
class Serving:
    """What MLflow records of a model.

    Attributes:
        code: the module that MLflow keeps a copy of and runs to load the model ("models from code").
        answers: columns that the model answers with, name -> MLflow type.
    """

    code: str
    answers: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write `serving.json` into a model's folder."""
        with atomic_file(folder / FILE) as path:
            path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, folder: Path) -> "Serving":
        """Return what `write` wrote.

        Raises:
            NotFoundError: the folder says nothing of it.
        """
        return cls(**json.loads(LocalStorage(folder).read(FILE)))

    @property
    def code_file(self) -> Path:
        """The file of the module `code`, which is not imported."""
        spec = find_spec(self.code)
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin)
