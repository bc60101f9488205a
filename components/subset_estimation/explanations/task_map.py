"""The tasks in a plane: spectral clustering of how alike their gradients are."""

import numpy as np
from sklearn.cluster import KMeans

from gradsift.components.shared.linear_model.margins import FloatArray
from gradsift.components.shared.records.selection_results import TaskMap
from gradsift.components.subset_estimation.statistics.directions import unit
from gradsift.components.subset_estimation.statistics.task_statistics import TaskStatistics

MAX_CLUSTERS = 10


def draw_task_map(statistics: TaskStatistics) -> TaskMap:
    """Return coordinates and clusters of the target and the auxiliary tasks.

    The affinity of two tasks is the cosine of their mean train gradients, 0 where they point against each other.
    With L = I - D^-1/2 A D^-1/2, the coordinates are the second and third eigenvectors of L times D^-1/2; the
    number of clusters is where its eigenvalues have their largest gap, 1 being the last of them; k-means puts
    tasks into clusters by the rows of that many eigenvectors, at length 1 (Ng, Jordan and Weiss, NIPS 2001).
    """
    means = statistics.gradient / statistics.rows[:, None]
    order = [len(means) - 1, *range(len(means) - 1)]
    affinity = _affinity(means[order])
    scale = 1 / np.sqrt(affinity.sum(axis=1))
    values, vectors = np.linalg.eigh(np.eye(len(order)) - scale[:, None] * affinity * scale)
    vectors = _signed(vectors)
    clusters = 1 + int(np.diff([*values, 1.0])[:MAX_CLUSTERS].argmax())
    coordinates = np.column_stack([vectors, np.zeros(len(order))])[:, 1:3] * scale[:, None]
    return TaskMap(
        tasks=[statistics.target, *statistics.tasks],
        x=coordinates[:, 0].tolist(),
        y=coordinates[:, 1].tolist(),
        cluster=_clusters(vectors[:, :clusters]),
    )


def _affinity(means: FloatArray) -> FloatArray:
    directions = unit(means)
    affinity = np.clip(directions @ directions.T, 0, 1)
    np.fill_diagonal(affinity, 1)
    return affinity


def _signed(vectors: FloatArray) -> FloatArray:
    """Return eigenvectors [n, n] with the largest number of each positive, so that a map has one orientation."""
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])


def _clusters(vectors: FloatArray) -> list[int]:
    """Return the cluster of every row of [n, k], numbered in the order of their first rows."""
    labels = KMeans(vectors.shape[1], n_init=10, random_state=0).fit_predict(unit(vectors))
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels.tolist()))}
    return [numbers[label] for label in labels.tolist()]
