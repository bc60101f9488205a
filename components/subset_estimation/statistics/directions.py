"""The directions that vectors point in."""

import numpy as np

from gradsift.components.shared.linear_model.margins import FloatArray, StoredArray


def unit(vectors: StoredArray) -> FloatArray:
    """Return vectors [..., k] at length 1 in float64, zero vectors as they are."""
    vectors = vectors.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
