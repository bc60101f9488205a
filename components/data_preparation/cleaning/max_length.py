"""How many tokens of a row the model reads, decided from the rows themselves."""

from typing import TYPE_CHECKING

import numpy as np

from gradsift.components.shared.parameters.model import MAX_AUTO_LENGTH

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERCENTILE = 99
MULTIPLE = 8
"""Lengths that accelerators like."""


def measured_max_length(lengths: "NDArray[np.int64]", for_labels: int, most: int | None) -> int:
    """Decide the largest number of tokens of a row: the 99th percentile, rounded up to a multiple of 8.

    Args:
        lengths: the number of tokens of each row [n].
        for_labels: number of tokens that the tasks' labels need.
        most: number of tokens that the model takes, None for any.
    """
    percentile = int(np.percentile(lengths, PERCENTILE, method="inverted_cdf"))
    rounded = MULTIPLE * -(-max(percentile, for_labels) // MULTIPLE)
    bounds = [max(for_labels, MAX_AUTO_LENGTH)] + ([] if most is None else [most])
    return min(rounded, *bounds)
