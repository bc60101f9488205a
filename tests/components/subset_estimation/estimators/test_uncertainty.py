"""Standard errors are those of means over rows and blocks, and keep what two subsets share."""

import numpy as np
import pytest

from gradsift.components.subset_estimation.estimators.uncertainty import Losses


def test_the_sampling_error_is_what_a_bootstrap_over_rows_finds() -> None:
    generator = np.random.default_rng(0)
    rows = generator.gamma(1.0, size=(2, 150))
    found = Losses(rows, np.zeros((2, 0))).estimates()
    weights = generator.multinomial(150, np.full(150, 1 / 150), size=20_000) / 150
    np.testing.assert_allclose(found.loss, rows.mean(axis=1), atol=1e-9)
    np.testing.assert_allclose(found.standard_error, (rows @ weights.T).std(axis=1), rtol=0.03)


def test_both_errors_add_as_squares() -> None:
    losses = Losses(rows=np.array([[0.0, 2.0]]), blocks=np.array([[0.0, 3.0, 0.0, 3.0]]))
    assert losses.estimates().standard_error[0] == pytest.approx(np.sqrt(2 / 2 + 3 / 4))


@pytest.mark.parametrize("blocks", [0, 1])
def test_one_block_has_no_projection_error(blocks: int) -> None:
    losses = Losses(rows=np.array([[0.0, 2.0]]), blocks=np.ones((1, blocks)))
    assert losses.estimates().standard_error[0] == pytest.approx(1.0)


def test_a_difference_is_free_of_what_both_share() -> None:
    generator = np.random.default_rng(1)
    shared_rows, shared_blocks = generator.normal(size=100), generator.normal(size=4)
    own = 0.01 * generator.normal(size=(2, 104))
    losses = Losses(shared_rows + own[:, :100], shared_blocks + own[:, 100:])
    alone = losses.estimates().standard_error
    difference = losses.combine(np.array([[1.0, -1.0]])).estimates().standard_error
    assert difference[0] < 0.05 * alone.min()
    zero = losses.combine(np.array([[1.0, -1.0], [0.0, 0.0]])).estimates()
    assert (zero.loss[1], zero.standard_error[1]) == (0, 0)


def test_differences_below_the_rounding_of_sums_are_ties() -> None:
    rows = np.array([[0.1, 0.2, 0.3]]) + np.array([[0.0], [1e-13]])
    estimates = Losses(rows, rows).estimates()
    assert estimates.loss[0] == estimates.loss[1]
    assert estimates.standard_error[0] == estimates.standard_error[1]
