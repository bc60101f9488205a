"""Of a source that is half good and half bad, the selection takes the good half once it is cut by its gradients."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.metrics import adjusted_rand_score

from gradsift.components.gradient_extraction.clusters.clustering import Clusters, cluster_rows
from gradsift.components.gradient_extraction.clusters.cut_store import write_cut_store
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import (
    PreparedData,
    PreparedTask,
    write_index,
    write_places,
)
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.subset_estimation.step import estimate_subsets


def selection_of(gradients: StepOutput, root: Path, **settings: Any) -> Selection:
    config = SubsetEstimationConfig(
        estimator="gauss_newton", ridge=1.0, random_subsets=20, random_baseline_draws=5, **settings
    )
    return Selection.read(fetch(estimate_subsets(config, gradients, str(root))))


def cut_data(folder: Path, clusters: Clusters) -> PreparedData:
    tasks = [PreparedTask(name="target", labels=["a", "b"], rows={"train": 15, "val": 200})]
    for number in range(2):
        places = clusters.places(number)
        write_places(folder, f"mixed#{number:02d}", "train", places)
        rows: Any = {"train": len(places)}
        tasks.append(PreparedTask(name=f"mixed#{number:02d}", labels=["a", "b"], rows=rows, part_of="mixed"))
    write_index(folder, "suite", "target", tasks)
    return PreparedData(folder)


LINES = np.eye(8)


def rows_of(synthetic: Any, generator: np.random.Generator, inputs: Any, answer: Any) -> Any:
    """Rows with these inputs [n, 8], whose right answers depend on their inner product with `answer` [8]."""
    inputs = inputs + 0.1 * generator.normal(size=inputs.shape)
    sign = np.where(generator.random(len(inputs)) < expit(4 * inputs @ answer), 1.0, -1.0)
    return synthetic.Rows(0.1 * generator.normal(size=len(inputs)), sign[:, None] * inputs)


def half(synthetic: Any, generator: np.random.Generator, rows: int, line: Any) -> Any:
    """Rows with inputs along a line, well away from 0, on which their answers depend."""
    amount = generator.choice([-1, 1], rows) * generator.uniform(0.7, 1.5, rows)
    return rows_of(synthetic, generator, amount[:, None] * line, line)


def test_the_good_half_of_a_source_is_chosen_once_it_is_cut(synthetic: Any, tmp_path: Path) -> None:
    """The target's answers depend on one direction of its inputs, as the good half's; the bad half's on another."""
    generator = np.random.default_rng(0)
    good, bad = (half(synthetic, generator, rows, line) for rows, line in ((70, LINES[0]), (50, LINES[1])))
    order = generator.permutation(120)
    is_bad = order >= 70
    mixed = synthetic.Rows(
        np.concatenate([good.margin, bad.margin])[order], np.concatenate([good.feature, bad.feature])[order]
    )
    target, validation = (
        rows_of(synthetic, generator, generator.normal(size=(rows, 2)) @ LINES[:2], LINES[0])
        for rows in (15, 200)
    )
    gradients = synthetic.Problem({"mixed": mixed}, target, validation, blocks=2).write(tmp_path / "whole")
    store = GradientStore(gradients.uri)

    clusters = cluster_rows(
        lambda: (shard.gradient for shard in store.read("mixed", "train")), 120, 2, min_rows=20, seed=0
    )
    assert adjusted_rand_score(is_bad, clusters.label) > 0.9
    data = cut_data(tmp_path / "data", clusters)
    cut = write_cut_store(store, data, "cut", str(tmp_path / "cut"))
    whole = selection_of(gradients, tmp_path)
    cut_gradients = StepOutput(cut.storage.uri, cut.digest, {"suite": "synthetic"})
    parts = selection_of(cut_gradients, tmp_path)

    assert is_bad[clusters.places(0)].mean() < 0.1
    assert parts.selected == ["mixed#00"]
    assert parts.estimated_loss < whole.estimated_loss - 0.02

    assert selection_of(cut_gradients, tmp_path, excluded_tasks=["mixed"]).selected == []
