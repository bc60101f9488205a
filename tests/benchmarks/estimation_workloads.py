"""Synthetic gradient stores of the size of real ones, for the benchmarks of estimation."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from synthetic_store import store_header

from gradsift.components.shared.gradient_store.gradient_format import Shard
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, GradientStoreWriter
from gradsift.components.shared.storage.local import LocalStorage

FloatArray = npt.NDArray[np.float64]

VALIDATION_ROWS, SHARD_ROWS = 2000, 8192


def linear_store(
    folder: Path, tasks: int, rows: int, dimension: int, margin: float, spread: float
) -> GradientStore:
    """Write float16 gradients in 4 projection blocks of auxiliary tasks and a target, of `rows` train rows each.

    Rows have linear margins, normal with this mean and spread at theta*. The features of a task's rows lean its
    own way, and all share a spectrum that falls to a tenth.
    """
    header = store_header(dimension=dimension, blocks=4, probes=1, shard_rows=SHARD_ROWS, dtype="float16")
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(rows + VALIDATION_ROWS, dimension)) * np.geomspace(1, 0.1, dimension)

    def shard(count: int, lean: FloatArray) -> Shard:
        margins = generator.normal(margin, spread, count)
        feature = np.roll(noise, generator.integers(len(noise)), axis=0)[:count] + lean
        wrong = expit(-margins)
        sampled = np.where(generator.random(count) < wrong, 1 - wrong, -wrong)
        return Shard(
            example_id=[str(row) for row in range(count)],
            loss=np.logaddexp(0, -margins).astype(np.float32),
            margin=margins.astype(np.float32),
            base_margin=np.zeros(count, np.float32),
            gradient=(-wrong[:, None] * feature).astype(np.float32),
            probe=(sampled[:, None] * feature).astype(np.float32)[:, None],
        )

    leans = 0.1 * generator.normal(size=(tasks + 1, dimension))
    names = [*(f"task{index}" for index in range(tasks)), "target"]
    with GradientStoreWriter(LocalStorage(folder), header) as writer:
        records = [
            writer.write_shard(name, "train", index, shard(min(SHARD_ROWS, rows - start), lean))
            for name, lean in zip(names, leans, strict=True)
            for index, start in enumerate(range(0, rows, SHARD_ROWS))
        ]
        records.append(writer.write_shard("target", "val", 0, shard(VALIDATION_ROWS, leans[-1])))
        writer.seal(records)
    return GradientStore(str(folder))


def half_subsets(tasks: int, count: int) -> npt.NDArray[np.bool_]:
    """Return `count` random subsets [count, tasks] of half of the tasks."""
    return np.random.default_rng(0).random((count, tasks)).argsort(axis=1) < tasks // 2
