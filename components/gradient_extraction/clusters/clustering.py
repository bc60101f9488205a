"""Clusters of rows whose gradients lie along similar lines: k-means on products of the gradients' coordinates.

Only the direction of a row's gradient matters, and opposite directions count as the same: similar texts with
different labels have opposite gradients, so clusters of directions would be the labels. Gradients are compared in
the directions in which those of the source vary most. With v the coordinates of a unit gradient
in these, a row is described by v v^T: the inner product of v v^T and w w^T is (v.w)^2, the similarity of
diametrical clustering (Dhillon, Marcotte and Roshan, Bioinformatics 19, 2003).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
ReadGradients = Callable[[], Iterable[FloatArray]]
"""Reads all gradients of a source in order, in parts [rows, d]."""

SAMPLED_ROWS = 8192
"""Largest number of rows that k-means reads."""
MIN_DIRECTIONS = 16
"""Number of directions that are compared; the number of clusters if that is larger."""
STARTS = 4
"""Runs of k-means, each with other first centres; the best one counts."""


@dataclass(frozen=True)
class Clusters:
    """The clusters of n rows, the largest first.

    Attributes:
        label: [n], each row's cluster.
        distance: [n], how far the row is from the cluster's centre; 0 to 2.
    """

    label: IntArray
    distance: FloatArray

    def places(self, cluster: int) -> IntArray:
        """Return the places of a cluster's rows, in order."""
        return np.flatnonzero(self.label == cluster)

    def typical(self, cluster: int, count: int) -> IntArray:
        """Return the places of the rows that are nearest to a cluster's centre, the nearest first."""
        places = self.places(cluster)
        return places[np.argsort(self.distance[places], kind="stable")[:count]]


def cluster_rows(read: ReadGradients, rows: int, clusters: int, min_rows: int, seed: int) -> Clusters:
    """Cluster the rows of a source by the lines that their gradients lie along.

    k-means finds the centres on a random sample of rows; each row belongs to the nearest centre. While a cluster is
    too small, the smallest one loses its centre, and its rows belong to the nearest of the others. The result does
    not depend on the number of cores. Memory is that of the sample, a part of the rows, and two numbers per row.

    Args:
        read: reads the gradients; several times.
        rows: n, how many there are.
        clusters: the largest number of clusters.
        min_rows: the smallest number of rows in a cluster.
        seed: decides the sample and where k-means begins.
    """
    with threadpool_limits(1):
        sample = _sample(read(), rows, seed)
        lines = _Lines.of(sample, max(MIN_DIRECTIONS, clusters), seed)
        features = lines.features(sample)
        centres = KMeans(clusters, n_init=STARTS, random_state=seed).fit(features).cluster_centers_
        while True:
            label, distance = _nearest(read(), lines, centres)
            sizes = np.bincount(label, minlength=len(centres))
            if len(centres) == 1 or sizes.min() >= min_rows:
                break
            centres = np.delete(centres, sizes.argmin(), axis=0)
    place = np.argsort(np.argsort(-sizes, kind="stable"))
    return Clusters(place[label], distance)


@dataclass(frozen=True)
class _Lines:
    """The directions [d, r] in which a source's gradients vary most."""

    directions: FloatArray

    @classmethod
    def of(cls, gradients: FloatArray, count: int, seed: int) -> "_Lines":
        count = min(count, *gradients.shape)
        found = TruncatedSVD(count, random_state=seed).fit(normalize(gradients))
        return cls(found.components_.T.astype(np.float32))

    def features(self, gradients: FloatArray) -> FloatArray:
        """Return features [n, r (r + 1) / 2], the same for a gradient and its opposite.

        Their inner product is the squared cosine of two gradients [n, d] in these directions.
        """
        along = normalize(gradients) @ self.directions
        first, second = np.triu_indices(along.shape[1])
        twice = np.where(first == second, 1, np.sqrt(2)).astype(np.float32)
        features: FloatArray = normalize(along[:, first] * along[:, second] * twice)
        return features


def _sample(parts: Iterable[FloatArray], rows: int, seed: int) -> FloatArray:
    """Return at most `SAMPLED_ROWS` of the rows, in their order."""
    wanted = np.sort(np.random.default_rng(seed).permutation(rows)[:SAMPLED_ROWS])
    found, first = [], 0
    for part in parts:
        own = wanted[(wanted >= first) & (wanted < first + len(part))] - first
        found.append(part[own])
        first += len(part)
    return np.concatenate(found)


def _nearest(parts: Iterable[FloatArray], lines: _Lines, centres: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return each row's nearest centre of [k, r (r + 1) / 2] and its distance from it, both [n]."""
    labels, distances = [], []
    for part in parts:
        features = lines.features(part)
        squared = (features**2).sum(axis=1)[:, None] - 2 * features @ centres.T + (centres**2).sum(axis=1)
        labels.append(squared.argmin(axis=1))
        distances.append(np.sqrt(np.maximum(squared.min(axis=1), 0)).astype(np.float32))
    return np.concatenate(labels), np.concatenate(distances)
