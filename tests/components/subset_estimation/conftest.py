"""Small gradient stores with known contents: rows whose margin is b + m.w, a linear model of a binary answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit
from synthetic_store import store_header
from tqdm import tqdm

from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.gradient_store.gradient_format import Answer, Shard, ShardRecord
from gradsift.components.shared.gradient_store.gradient_store import GradientStoreWriter
from gradsift.components.shared.linear_model.margins import linear_margins
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.subset_estimation.estimators.loss_estimator import (
    LossEstimator,
    simulated_estimator,
    solved_estimator,
)
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.statistics.run_start import RunStart, StartRows
from gradsift.components.subset_estimation.statistics.task_statistics import TaskStatistics, TrainRows

FloatArray = npt.NDArray[np.float64]
SHARD_ROWS = 16


@dataclass
class LinearRows:
    """Margins [N] at w = 0 and features [N, d] of rows; the probes are an exact square root of the curvature."""

    margin: FloatArray
    feature: FloatArray

    @property
    def base_margin(self) -> FloatArray:
        """Margins before a step of weights that raised each margin by the sum of the row's features."""
        return self.margin - self.feature.sum(axis=1)

    @property
    def gradient(self) -> FloatArray:
        return -expit(-self.margin)[:, None] * self.feature

    @property
    def probe(self) -> FloatArray:
        right, wrong = expit(self.margin)[:, None], expit(-self.margin)[:, None]
        both = [np.sqrt(2 * right) * -wrong * self.feature, np.sqrt(2 * wrong) * right * self.feature]
        return np.stack(both, axis=1)

    @property
    def curvature(self) -> FloatArray:
        weight = expit(self.margin) * expit(-self.margin)
        return (self.feature * weight[:, None]).T @ self.feature


@dataclass
class LinearProblem:
    """The train rows of auxiliary tasks and of the target, and the target's validation rows."""

    tasks: dict[str, LinearRows]
    target: LinearRows
    validation: LinearRows
    blocks: int = 1

    @property
    def train(self) -> list[LinearRows]:
        """The rows in the order of the sums in `TaskStatistics`."""
        return [*self.tasks.values(), self.target]

    def statistics(self) -> TaskStatistics:
        return TaskStatistics(
            target="target",
            tasks=tuple(self.tasks),
            blocks=self.blocks,
            rows=np.array([len(rows.margin) for rows in self.train], float),
            gradient=np.stack([rows.gradient.sum(axis=0) for rows in self.train]),
            curvature=np.stack([rows.curvature for rows in self.train]),
            squared_step_norm=float(self.target.feature.shape[1]),
            validation_margin=self.validation.margin,
            validation_base_margins=self.validation.base_margin,
            validation_positions=np.ones(len(self.validation.margin)),
            validation_gradient=self.validation.gradient,
        )

    def train_rows(self, dtype: Any = np.float64) -> TrainRows:
        margins = [linear_margins(rows.margin, rows.gradient) for rows in self.train]
        return TrainRows(
            starts=np.cumsum([0, *(len(rows.margin) for rows in self.train)]),
            offset=np.concatenate([offset for offset, _ in margins]).astype(dtype),
            base_margins=np.concatenate([rows.base_margin for rows in self.train]).astype(dtype),
            feature=np.concatenate([feature for _, feature in margins]).astype(dtype),
            blocks=self.blocks,
        )

    def start(self, dtype: Any = np.float64) -> RunStart:
        """Return what runs from the base weights find, in arrays of this type."""
        rows = self.train
        features = [_with_step(each) for each in rows]
        wrong = [expit(-each.base_margin)[:, None] for each in rows]
        weighted = [f * np.sqrt(w * (1 - w)) for f, w in zip(features, wrong, strict=True)]
        base = np.concatenate([each.base_margin for each in rows]).astype(dtype)
        return RunStart(
            blocks=self.blocks,
            counts=np.array([len(each.margin) for each in rows], float),
            rows=StartRows(
                starts=np.cumsum([0, *(len(each.margin) for each in rows)]),
                margin=base,
                base_margin=base,
                meta_margin=np.concatenate([each.margin for each in rows]).astype(dtype),
                feature=np.concatenate(features).astype(dtype),
                positions=np.ones(len(base), dtype),
            ),
            gradient=np.stack([-(w * f).mean(axis=0) for f, w in zip(features, wrong, strict=True)]),
            curvature=np.stack([w.T @ w / len(w) for w in weighted]).astype(dtype),
            validation_margin=self.validation.base_margin,
            validation_feature=_with_step(self.validation),
            validation_positions=np.ones(len(self.validation.margin)),
        )

    def estimator(self, **settings: Any) -> LossEstimator:
        config = SubsetEstimationConfig(**({"estimator": "gauss_newton", "ridge": 1.0} | settings))
        if config.estimator == "simulated":
            return simulated_estimator(config, self.statistics(), [self.start()])
        rows = self.train_rows() if config.estimator == "logistic" else None
        return solved_estimator(config, self.statistics(), rows)

    def ledger(self, **settings: Any) -> EstimateLedger:
        return EstimateLedger(self.estimator(**settings), tqdm(disable=True))

    def at_base(self, seed: int = 1) -> "LinearProblem":
        """Return the rows at the weights before the step of `base_margin`, where they have other features."""
        generator = np.random.default_rng(seed)

        def moved(rows: LinearRows) -> LinearRows:
            return LinearRows(rows.base_margin, generator.normal(size=rows.feature.shape))

        tasks = {name: moved(rows) for name, rows in self.tasks.items()}
        return LinearProblem(tasks, moved(self.target), moved(self.validation), self.blocks)

    def write(
        self, folder: Path | str, answer: Answer = "class", tokens: int = 1, base: bool = False
    ) -> StepOutput:
        """Write the problem as a gradient store; with answers of several tokens, losses are means over them.

        Args:
            folder: where.
            answer: what answers a row.
            tokens: tokens of an answer.
            base: whether the header says that the gradients are those at the base weights.
        """
        dimension = self.target.feature.shape[1]
        weights = {"model_digest": "a" * 64, "squared_step_norm": 0.0} if base else {}
        header = store_header(
            dimension=dimension,
            blocks=self.blocks,
            probes=2,
            answer=answer,
            shard_rows=SHARD_ROWS,
            **{"squared_step_norm": float(dimension), **weights},
        )
        writer = GradientStoreWriter(open_storage(str(folder)), header)
        records = [
            record
            for task, rows in self.tasks.items()
            for record in _shards(writer, task, "train", rows, tokens)
        ]
        records += _shards(writer, "target", "train", self.target, tokens)
        records += _shards(writer, "target", "val", self.validation, tokens)
        return StepOutput(str(folder), writer.seal(records), {"suite": "synthetic"})


def _with_step(rows: LinearRows) -> FloatArray:
    """Return features and the margins' change along the unit vector of the step from the base weights."""
    step = (rows.margin - rows.base_margin) / np.sqrt(rows.feature.shape[1])
    return np.column_stack([rows.feature, step])


def _shards(
    writer: GradientStoreWriter, task: str, split: Any, rows: LinearRows, tokens: int
) -> list[ShardRecord]:
    return [
        writer.write_shard(
            task,
            split,
            index,
            Shard(
                example_id=[f"{task}-{split}-{row}" for row in range(len(rows.margin))][part],
                loss=np.logaddexp(0, -rows.margin[part]).astype(np.float32) / tokens,
                margin=rows.margin[part].astype(np.float32),
                base_margin=rows.base_margin[part].astype(np.float32),
                gradient=rows.gradient[part].astype(np.float32) / tokens,
                probe=rows.probe[part].astype(np.float32) / np.float32(tokens**0.5),
                positions=np.full(len(rows.margin[part]), tokens, np.float32),
            ),
        )
        for index, part in enumerate(
            slice(start, start + SHARD_ROWS) for start in range(0, len(rows.margin), SHARD_ROWS)
        )
    ]


class Synthetic:
    """Makes problems."""

    Rows = LinearRows
    Problem = LinearProblem

    @staticmethod
    def rows(generator: np.random.Generator, rows: int, dimension: int) -> LinearRows:
        return LinearRows(generator.normal(0.5, 1.5, rows), generator.normal(size=(rows, dimension)))

    @staticmethod
    def signal(
        generator: np.random.Generator, rows: int, directions: FloatArray, flip: bool = False
    ) -> LinearRows:
        """Rows whose answer depends on `directions` [k, d] of the input; `flip` gives each the wrong one."""
        inputs = generator.normal(size=(rows, len(directions))) @ directions
        inputs += 0.2 * generator.normal(size=inputs.shape)
        right = generator.random(rows) < expit(4 * inputs @ directions.sum(axis=0))
        sign = np.where(right != flip, 1.0, -1.0)
        return LinearRows(0.1 * generator.normal(size=rows), sign[:, None] * inputs)

    @classmethod
    def problem(
        cls, seed: int = 0, tasks: int = 4, rows: int = 20, dimension: int = 8, blocks: int = 1
    ) -> LinearProblem:
        """A problem without structure: tasks of `rows`, `rows` + 1, ... rows."""
        generator = np.random.default_rng(seed)
        return LinearProblem(
            {f"task{index}": cls.rows(generator, rows + index, dimension) for index in range(tasks)},
            cls.rows(generator, rows, dimension),
            cls.rows(generator, 2 * rows, dimension),
            blocks,
        )

    @staticmethod
    def subsets(tasks: int) -> npt.NDArray[np.bool_]:
        """Every subset [2^n, n]."""
        return (np.arange(2**tasks)[:, None] >> np.arange(tasks) & 1).astype(bool)


@pytest.fixture(scope="session")
def synthetic() -> Synthetic:
    return Synthetic()
