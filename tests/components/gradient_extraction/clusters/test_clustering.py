"""Clusters of planted lines, of mixed real sources, and against slower arithmetic."""

import tarfile
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from gradsift.components.gradient_extraction.clusters import clustering
from gradsift.components.gradient_extraction.clusters.clustering import Clusters, cluster_rows
from gradsift.components.shared.gradient_store.gradient_store import GradientStore

FloatArray = npt.NDArray[np.float32]
STORE = Path(__file__).parents[2] / "fidelity" / "small_stores" / "sst2.tar.xz"


def clustered(
    gradients: FloatArray, clusters: int, min_rows: int = 1, seed: int = 0, part: int = 37
) -> Clusters:
    def read() -> list[FloatArray]:
        return [gradients[first : first + part] for first in range(0, len(gradients), part)]

    return cluster_rows(read, len(gradients), clusters, min_rows, seed)


def planted(sizes: list[int], noise: float, seed: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Rows along one of a few orthogonal lines each, either way and of any length, in random order."""
    generator = np.random.default_rng(seed)
    group = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    lines = np.linalg.qr(generator.normal(size=(40, len(sizes))))[0].T
    rows = lines[group] + noise * generator.normal(size=(len(group), 40)) / 40**0.5
    length = generator.choice([-1, 1], len(group)) * generator.lognormal(0, 2, len(group))
    return (length[:, None] * rows).astype(np.float32), group


@settings(max_examples=8)
@given(sizes=st.lists(st.integers(25, 80), min_size=2, max_size=4), seed=st.integers(0, 1000))
def test_rows_along_a_line_are_a_cluster_whichever_way_they_point(sizes: list[int], seed: int) -> None:
    gradients, group = planted(sizes, 0.3, seed)
    found = clustered(gradients, len(sizes))
    assert adjusted_rand_score(group, found.label) > 0.9
    counts = np.bincount(found.label)
    assert (np.diff(counts) <= 0).all()


@settings(max_examples=3)
@given(seed=st.integers(0, 1000))
def test_the_result_depends_on_neither_threads_nor_parts_nor_lengths(seed: int) -> None:
    gradients, _ = planted([60, 50, 40], 0.8, seed)
    expected = clustered(gradients, 3)
    with threadpool_limits(2):
        found = clustered(gradients, 3)
    np.testing.assert_array_equal(found.label, expected.label)
    np.testing.assert_array_equal(found.distance, expected.distance)
    lengths = 2.0 ** np.random.default_rng(seed).integers(-3, 3, (len(gradients), 1)).astype(np.float32)
    for other in (clustered(gradients, 3, part=1000), clustered(-lengths * gradients, 3)):
        np.testing.assert_array_equal(other.label, expected.label)


def test_rows_belong_to_the_nearest_centre_by_plain_arithmetic() -> None:
    """With as many directions as numbers, features are unit gradients' outer products."""
    gradients, _ = planted([40, 30, 30], 0.5, 3)
    gradients = gradients[:, :10]
    found = clustered(gradients, 3)
    unit = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    products = np.einsum("ni,nj->nij", unit, unit).reshape(len(unit), -1).astype(np.float64)
    centres = np.stack([products[found.places(number)].mean(axis=0) for number in range(3)])
    distance = np.linalg.norm(products[:, None] - centres, axis=2)
    np.testing.assert_array_equal(distance.argmin(axis=1), found.label)
    np.testing.assert_allclose(distance.min(axis=1), found.distance, atol=1e-3)
    own = found.places(0)
    assert set(found.typical(0, 3)) == set(own[np.argsort(distance[own, 0])[:3]])


def test_rows_of_a_cluster_that_is_too_small_go_to_the_nearest_of_the_others() -> None:
    gradients, group = planted([80, 60, 8], 0.2, 1)
    found = clustered(gradients, 3, min_rows=20)
    assert len(np.bincount(found.label)) == 2
    large = group < 2
    assert adjusted_rand_score(group[large], found.label[large]) == 1


def test_rows_that_are_all_alike_are_one_cluster() -> None:
    assert not clustered(np.ones((60, 6), np.float32), 2, min_rows=20).label.any()
    assert not clustered(np.zeros((60, 6), np.float32), 2, min_rows=20).label.any()


def test_centres_come_from_a_sample_where_there_are_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "SAMPLED_ROWS", 60)
    gradients, group = planted([200, 150], 0.3, 2)
    assert adjusted_rand_score(group, clustered(gradients, 2).label) > 0.95


def test_two_mixed_real_sources_come_apart(tmp_path: Path) -> None:
    """Gradients of real sources at a model that was trained on all; directions without lines give the labels."""
    with tarfile.open(STORE) as archive:
        archive.extractall(tmp_path, filter="data")
    store = GradientStore(str(tmp_path))
    tasks = ["mr", "subj", "trec", "blimp_agreement"]
    gradients = {
        task: np.concatenate([each.gradient for each in store.read(task, "train")]) for task in tasks
    }
    scores = {}
    for one, other in combinations(tasks, 2):
        mixed = np.concatenate([gradients[one], gradients[other]])
        group = np.repeat([0, 1], [len(gradients[one]), len(gradients[other])])
        scores[one, other] = adjusted_rand_score(group, clustered(mixed, 2, min_rows=20).label)
    assert min(scores.values()) > 0.9, scores
    assert scores["mr", "subj"] == 1
