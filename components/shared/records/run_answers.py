"""What a fine-tuning run measured of its model: files that the training processes write and other steps read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from gradsift.components.shared.storage.local import atomic_file

FloatArray = npt.NDArray[np.float32]
WRITTEN = "written"


@dataclass(frozen=True)
class ValidationAnswers:
    """`val.safetensors`: the target's validation rows.

    Attributes:
        loss: loss of each row in nats [n_val]; of a written answer the mean over its tokens.
        right: whether the model's answer is the right one [n_val]; of a written answer, whether greedy decoding
            would give it whole.
    """

    FILE: ClassVar[str] = "val.safetensors"

    loss: FloatArray
    right: npt.NDArray[np.bool_]

    def write(self, folder: Path, seconds: float) -> None:
        """Write the file, with the `seconds` that the run has taken."""
        arrays = {"loss": self.loss, "right": self.right, "seconds": np.array(seconds, np.float32)}
        with atomic_file(folder / self.FILE) as path:
            save_file(arrays, path)

    @classmethod
    def read(cls, folder: Path) -> tuple["ValidationAnswers", float]:
        """Return what `write` wrote."""
        arrays = load_file(folder / cls.FILE)
        return cls(arrays["loss"], arrays["right"]), float(arrays["seconds"])


@dataclass(frozen=True)
class HeldOutAnswers:
    """`test.safetensors`: answers to the target's test inputs.

    Where the target has labels, the right ones were not read: every label was scored. Written answers are scored
    against the row's completion as well (teacher forcing), which takes the model.

    Attributes:
        labels: log-probabilities of the labels [n_test, n_labels].
        label_losses: loss that each row has if the label is the right one [n_test, n_labels].
        losses: loss of each row's completion [n_test], the mean over its tokens.
        token_accuracy: share of the completion's tokens with the highest score after those before them [n_test].
        written: what the model writes for each row by greedy decoding, rationales included.
    """

    FILE: ClassVar[str] = "test.safetensors"

    labels: FloatArray | None = None
    label_losses: FloatArray | None = None
    losses: FloatArray | None = None
    token_accuracy: FloatArray | None = None
    written: list[str] | None = None

    def write(self, folder: Path) -> None:
        """Write the file: arrays as tensors, texts into its metadata."""
        arrays = {name: value for name, value in vars(self).items() if name != WRITTEN and value is not None}
        with atomic_file(folder / self.FILE) as path:
            save_file(arrays, path, {WRITTEN: json.dumps(self.written)})

    @classmethod
    def read(cls, folder: Path) -> "HeldOutAnswers":
        """Return what `write` wrote."""
        with safe_open(folder / cls.FILE, "numpy") as file:
            arrays: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            return cls(**arrays, written=json.loads(file.metadata()[WRITTEN]))
