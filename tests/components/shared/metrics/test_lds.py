"""How well estimates rank fine-tuned subsets, against SciPy and by hand."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from gradsift.components.shared.metrics.lds import (
    MIN_SUBSETS,
    ComparedRun,
    RankAgreement,
    rank_agreement,
    spearman,
    spearman_interval,
)


def runs(estimates: list[float], true: list[float]) -> list[ComparedRun]:
    pairs = enumerate(zip(true, estimates, strict=True))
    return [ComparedRun([f"task{index}"], loss, estimate) for index, (loss, estimate) in pairs]


def test_spearman_goes_along_the_last_axis() -> None:
    one, other = np.random.default_rng(0).random((2, 4, 3, 9))
    rows = [
        [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
        for x, y in zip(one, other, strict=True)
    ]
    assert spearman(one, other) == pytest.approx(np.array(rows))


def test_intervals_hold_the_correlation() -> None:
    generator = np.random.default_rng(0)
    true = generator.random(50)
    estimates = true + generator.normal(0, 0.3, 50)
    low, high = spearman_interval(estimates, true)
    assert low < spearmanr(estimates, true).statistic < high
    drawn = generator.integers(50, size=(300, 50))
    plain = [spearmanr(estimates[own], true[own]).statistic for own in drawn]
    assert (low, high) == pytest.approx(np.percentile(plain, [2.5, 97.5]), abs=0.06)


def test_agreement_is_spearmans_over_the_subsets_with_its_interval() -> None:
    true, estimates = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 3.0, 2.0, 4.0, 6.0, 5.0]
    found = rank_agreement(runs(estimates, true))
    assert found is not None
    assert (found.subsets, found.lds) == (6, pytest.approx(spearmanr(estimates, true).statistic))
    assert found.low < found.lds < found.high


def test_seeds_of_one_subset_count_as_one_in_any_order_of_its_tasks() -> None:
    once = runs([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 4.0, 3.0, 6.0])
    pair = [ComparedRun(["a", "b"], 1.0, 9.0), ComparedRun(["b", "a"], 3.0, 9.0)]
    mean = [ComparedRun(["b", "a"], 2.0, 9.0)]
    assert rank_agreement([*once, *pair]) == rank_agreement([*once, *mean])
    assert rank_agreement([*once[:4], *once[:4], *pair]) != rank_agreement(once)


@pytest.mark.parametrize(
    ("estimates", "true"),
    [([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]), ([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0])],
    ids=["few", "constant"],
)
def test_few_subsets_and_equal_estimates_say_nothing(estimates: list[float], true: list[float]) -> None:
    assert rank_agreement(runs(estimates, true)) is None


def test_repeated_seeds_do_not_make_few_subsets_many() -> None:
    few = runs([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])
    assert rank_agreement(few * 3) is None
    assert isinstance(rank_agreement([*few, ComparedRun([], 0.0, 0.0)]), RankAgreement)
    assert MIN_SUBSETS == 5
