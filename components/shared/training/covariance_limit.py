"""A limit on the decision boundary covariance of a group: primal-dual training, after PDFM.

With z = 1 for rows of the group and 0 for the others, z_t the mean of z over a task's train rows, and d how far a
row is on the side of the favourable label, the covariance of Zafar et al. (2017) is E[(z - z_t) d]. The training
minimises the Lagrangian of |covariance| <= c. Two multipliers, one for each side of zero, keep it linear in the
rows, so that it is the same for any micro-batch and number of processes:

    L = mean_i loss_i + (upper - lower) sum over limited rows (z_i - z_t) d_i / B - c (upper + lower)

After each step, with cov the mean of (z_i - z_t) d_i over the limited rows of the step,

    upper <- max(0, upper + rate (cov - c)),    lower <- max(0, lower + rate (-cov - c)).

The primal-dual scheme, and multipliers that meta-training hands on, are those of Zhao, Chen, Wang, Khan: "A
Primal-Dual Subgradient Approach for Fair Meta Learning" (ICDM 2020, arXiv 2009.12675), here with multitask training
in place of episodes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.data.two_groups import TwoGroups, target_groups, two_groups
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.parameters.fairness import ENCODER_EXPECTED, FairnessConfig
from gradsift.components.shared.records.group_results import (
    LIMIT_FIELD,
    DualStep,
    LimitedTraining,
    limited_training,
)
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.objective import MeanLoss, Objective

DEVIATION, POSITIVE, NEGATIVE = "group_deviation", "positive_class", "negative_class"


class CovarianceLimit:
    """The Lagrangian of a training's loss under a limit on the covariance (an `Objective`)."""

    def __init__(
        self,
        config: FairnessConfig,
        columns: Mapping[str, npt.NDArray[Any]],
        tasks: list[str],
        unlimited_tasks: list[str],
        start: DualStep,
    ) -> None:
        """Begin with some multipliers.

        Args:
            config: the limit.
            columns: each train row's deviation (NaN where it is not limited) and its classes [n_rows].
            tasks: the limited tasks.
            unlimited_tasks: the tasks of the training whose rows are not limited.
            start: the multipliers before the first step.
        """
        self.columns = columns
        self.path = [start]
        self.upper, self.lower = start.upper, start.lower
        self._config = config
        self._tasks, self._unlimited_tasks = tasks, unlimited_tasks
        self._moment, self._rows = torch.zeros((), dtype=torch.float64), 0

    def loss(self, mean_loss: Tensor, answers: Answers, side: Mapping[str, Tensor]) -> Tensor:
        """Return the micro-batch's part of the Lagrangian, a scalar, and note its covariance."""
        limited = (~side[DEVIATION].isnan()).nonzero()[:, 0]
        scores = answers.logits[limited, 0]
        positive, negative = (side[name][limited, None] for name in (POSITIVE, NEGATIVE))
        decision = (scores.gather(1, positive) - scores.gather(1, negative))[:, 0]
        if self._config.space == "probability":
            decision = decision.sigmoid()
        moment = (side[DEVIATION][limited] * decision).sum()
        self._moment = self._moment.to(moment.device) + moment.detach()
        self._rows += len(limited)
        weighted = (self.upper - self.lower) * moment / len(answers.logits)
        return mean_loss + weighted.to(mean_loss) - self._config.limit * (self.upper + self.lower)

    def after_step(self, step: int, noted: bool) -> None:
        """Move the multipliers by the covariance of the step's rows in all processes, if any are limited."""
        totals = torch.stack([self._moment, torch.tensor(self._rows).to(self._moment)])
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(totals)
        moment, rows = totals.tolist()
        self._moment, self._rows = torch.zeros_like(self._moment), 0
        if rows:
            rate, limit, covariance = self._config.dual_rate, self._config.limit, moment / rows
            self.upper = max(0.0, self.upper + rate * (covariance - limit))
            self.lower = max(0.0, self.lower + rate * (-covariance - limit))
        if noted:
            self.path.append(DualStep(step=step, upper=self.upper, lower=self.lower))

    def state(self) -> dict[str, Any]:
        """Return the multipliers and their path."""
        path = [each.model_dump() for each in self.path]
        return {"upper": self.upper, "lower": self.lower, "path": path}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what `state` returned."""
        self.upper, self.lower = state["upper"], state["lower"]
        self.path = [DualStep(**each) for each in state["path"]]

    def result(self) -> dict[str, Any]:
        """Return which tasks were limited, and the multipliers' path."""
        found = LimitedTraining(
            settings=self._config.model_dump(),
            tasks=self._tasks,
            unlimited_tasks=self._unlimited_tasks,
            path=self.path,
        )
        return {LIMIT_FIELD: found.model_dump()}


def objective_of(job: TrainingJob, model: TaskModel, data: PreparedData) -> Objective:
    """Return what a job minimises: the mean loss, or its Lagrangian under a limit.

    Where the job starts from a model that was trained under a limit, it begins with that training's multipliers.

    Raises:
        InputError: the model is no encoder, or the groups of the target's train rows cannot be compared.
    """
    if job.fairness is None:
        return MeanLoss()
    if not isinstance(model, EncoderClassifier):
        raise InputError(f"Parameter base_model is {job.model.base_model!r}: {ENCODER_EXPECTED}")
    comparable = {task: two_groups(job.fairness, data, task) for task in job.tasks}
    comparable[data.target] = target_groups(job.fairness, data, "train")
    limited = {task: groups for task, groups in comparable.items() if groups is not None}
    return CovarianceLimit(
        job.fairness,
        _columns(job.tasks, data, limited, model.head.tasks),
        list(limited),
        [task for task in job.tasks if task not in limited],
        _first_multipliers(job.start),
    )


def _columns(
    tasks: Sequence[str],
    data: PreparedData,
    limited: Mapping[str, TwoGroups],
    classes: Mapping[str, Sequence[int]],
) -> dict[str, npt.NDArray[Any]]:
    """Return the side columns of the train rows, one task after the other.

    Args:
        tasks: the tasks whose rows are trained on.
        data: the prepared data.
        limited: the groups of the limited tasks' rows.
        classes: the model's class of each task's labels.
    """
    columns: dict[str, list[npt.NDArray[Any]]] = {DEVIATION: [], POSITIVE: [], NEGATIVE: []}
    for task in tasks:
        rows = data.task(task).rows["train"]
        values: tuple[Any, int, int] = (np.nan, 0, 0)
        if task in limited:
            positive = limited[task].positive
            values = (limited[task].deviations, classes[task][positive], classes[task][1 - positive])
        for column, value in zip(columns.values(), values, strict=True):
            column.append(np.broadcast_to(np.asarray(value), rows))
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _first_multipliers(start: Path | None) -> DualStep:
    before = None if start is None else limited_training(json.loads((start / RESULT).read_text()))
    if before is None:
        return DualStep(step=0, upper=0.0, lower=0.0)
    return before.path[-1].model_copy(update={"step": 0})
