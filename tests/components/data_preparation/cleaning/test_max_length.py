"""The number of tokens that is decided from rows: a high percentile, within its bounds."""

import numpy as np
import pytest

from gradsift.components.data_preparation.cleaning.max_length import measured_max_length


@pytest.mark.parametrize(
    ("lengths", "for_labels", "most", "expected"),
    [
        ([16] * 100, 0, None, 16),
        ([17] * 100, 0, None, 24),
        ([10] * 99 + [900], 0, None, 16),
        ([10] * 98 + [900] * 2, 0, None, 904),
        ([10] * 100, 33, None, 40),
        ([5000] * 100, 0, None, 1024),
        ([5000] * 100, 0, 512, 512),
        ([500] * 100, 0, 501, 501),
        ([10] * 100, 1100, None, 1100),
    ],
)
def test_the_percentile_is_rounded_up_within_its_bounds(
    lengths: list[int], for_labels: int, most: int | None, expected: int
) -> None:
    assert measured_max_length(np.array(lengths), for_labels, most) == expected
