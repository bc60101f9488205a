"""What a sampler sees of each task: its mean loss gradient at some weights, and whether its labels can be learned.

A few train rows of each task are drawn; each row's gradient is sketched by the projection that gradients are
extracted with (see `per_example`), without its last, dense product. The processes share the tasks among them.
"""

from collections import deque
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.precision import autocast
from gradsift.components.shared.models.task_model import Example, TaskModel, by_length
from gradsift.components.shared.parameters.training import Precision
from gradsift.components.shared.training.sampling.adaptation import adapted_loss

if TYPE_CHECKING:
    from datasets import Dataset

SKETCH = 8192
"""Upper bound on the size of a sketched gradient, which is the largest prime up to it."""
ROW_BATCH = 8
"""Rows that go through the model at a time; fewer where they do not fit into the GPU's memory."""


@dataclass(frozen=True)
class TaskProbe:
    """The tasks at one point of the training.

    Attributes:
        tasks: their names.
        gradient: mean loss gradient of each task's drawn rows, sketched, [n, m].
        balanced: the same with an equal weight for each label: the mean over the labels of the mean gradient of
            their rows, [n, m]. The labels' shares among a few rows do not move it. The plain mean for a task
            without labels.
        adapted: loss of held-out rows after training on the others, over the entropy of the labels, [n]; not a
            number for a task without labels, or whose drawn rows all have one label.
    """

    tasks: list[str]
    gradient: npt.NDArray[np.float64]
    balanced: npt.NDArray[np.float64]
    adapted: npt.NDArray[np.float64]


def probe_tasks(
    model: TaskModel,
    examples: "Dataset",
    rows: Mapping[str, int],
    labels: Mapping[str, "Dataset | None"],
    count: int,
    seed: list[int],
    precision: Precision,
    device: torch.device,
) -> TaskProbe:
    """Look at every task's gradients at the model's weights; the model itself stays as it is.

    All processes of the training take part, and all of them get the same.

    Args:
        model: the model, whole in every process, with what is not trained frozen.
        examples: train rows of all tasks as the model's `encode` gives them, one task after the other.
        rows: number of train rows of each task, in that order.
        labels: each task's train rows with their `label`; None for a task without labels.
        count: largest number of rows of a task that are looked at.
        seed: decides which; the place of the task is added to it.
        precision: what the model computes in.
        device: where it computes.
    """
    sketcher = _Sketcher(model, precision, device)
    processes, process = torch.distributed.get_world_size(), torch.distributed.get_rank()
    width = sketcher.width
    found = torch.zeros(len(rows), 2 * width + 1, dtype=torch.float64, device=device)
    first = 0
    for place, (task, size) in enumerate(rows.items()):
        if place % processes == process:
            drawn = np.sort(np.random.default_rng([*seed, place]).permutation(size)[:count])
            sketches, margins = sketcher.of_rows(examples.select(first + drawn))
            found[place, :width] = sketches.mean(0)
            known = labels[task]
            if known is None:
                found[place, width:-1], found[place, -1] = sketches.mean(0), torch.nan
            else:
                numbers = np.array(known.select(drawn)["label"])
                found[place, width:-1] = mean_over_labels(sketches, numbers)
                found[place, -1] = adapted_loss(sketches, margins, numbers)
        first += size
    torch.distributed.all_reduce(found)
    values = found.cpu().numpy()
    return TaskProbe(list(rows), values[:, :width], values[:, width:-1], values[:, -1])


def mean_over_labels(gradient: Tensor, label: npt.NDArray[np.int64]) -> Tensor:
    """Return the mean over the labels of the mean gradient of their rows, [m].

    Args:
        gradient: gradient of each row's loss, [n, m].
        label: each row's label, [n].
    """
    means = [gradient[torch.from_numpy(label == each)].mean(0) for each in np.unique(label)]
    return torch.stack(means).mean(0)


class _Sketcher:
    """Sketches rows' gradients, on a copy of the model because the hooks cannot be removed."""

    def __init__(self, model: TaskModel, precision: Precision, device: torch.device) -> None:
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._model = deepcopy(model).to(device).eval()
        self._sketcher = GradientSketcher(self._model, trained, dimension=1, width=SKETCH, seed=0)
        self._precision = precision
        self.width = self._sketcher.projection.width

    def of_rows(self, examples: "Dataset") -> tuple[Tensor, Tensor]:
        """Return the sketched gradient of each row's loss [n, m] and each row's margin [n], float64."""
        rows = list(examples)
        sketches = torch.zeros(len(rows), self.width, dtype=torch.float64)
        margins = torch.zeros(len(rows), dtype=torch.float64)
        waiting = deque(by_length(rows, ROW_BATCH))
        while waiting:
            places = waiting.popleft()
            try:
                sketches[places], margins[places] = self._batch([rows[place] for place in places])
            except torch.OutOfMemoryError:
                if len(places) == 1:
                    raise
                torch.cuda.empty_cache()
                middle = len(places) // 2
                waiting.extendleft([places[middle:], places[:middle]])
        return sketches, margins

    def _batch(self, examples: list[Example]) -> tuple[Tensor, Tensor]:
        self._sketcher.rows = len(examples)
        answers = self._answers(examples)
        sketches = self._sketcher.sketches(answers.losses().sum(), keep_graph=False)
        return sketches.double().cpu(), answers.detached().margins().double().cpu()

    def _answers(self, examples: list[Example]) -> Answers:
        with autocast(self._model.device, self._precision):
            return self._model.answers(self._model.batch(examples))
