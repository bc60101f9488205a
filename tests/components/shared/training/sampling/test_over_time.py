"""The samplers over past periods: by age, and by how far gradients agree with the target's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.training.sampling.l2s import l2s
from gradsift.components.shared.training.sampling.recency import recency
from gradsift.components.shared.training.sampling.task_probe import TaskProbe

ROWS = {"news": 20, "news.2004": 40, "news.2003": 10, "plain": 30}


def probe(*balanced: list[float]) -> TaskProbe:
    plain = np.full((len(balanced), len(balanced[0])), np.nan)
    return TaskProbe(list(ROWS), plain, np.array(balanced), np.full(len(balanced), np.nan))


def test_recency_weighs_rows_by_their_age_and_counts_what_has_no_period_as_new() -> None:
    shares = recency(ROWS, {"news": "2005", "news.2004": "2004", "news.2003": "2003"}).shares
    weights = np.array([20, 40 * np.exp(-1 / 1.5), 10 * np.exp(-2 / 1.5), 30])
    assert list(shares.values()) == pytest.approx((weights / weights.sum()).tolist())


def test_ages_count_the_periods_that_there_are() -> None:
    close = recency(ROWS, {"news": "2005-03", "news.2004": "2005-02", "news.2003": "2005-01"})
    gaps = recency(ROWS, {"news": "2005-03", "news.2004": "2001-02", "news.2003": "1999-12"})
    assert close == gaps


def test_a_period_gets_rows_by_its_cosine_and_the_target_its_share_by_size() -> None:
    found = l2s(probe([1, 0], [3, 4], [2, 0], [-1, 1]), ROWS, "news", [])
    assert found.cosines == pytest.approx({"news.2004": 0.6, "news.2003": 1.0, "plain": -(0.5**0.5)})
    weights = np.array([40 * 0.6, 10 * 1.0, 0])
    assert found.shares["news"] == pytest.approx(0.2)
    assert list(found.shares.values())[1:] == pytest.approx((0.8 * weights / weights.sum()).tolist())


def test_cosines_are_averaged_over_the_rounds_and_a_source_that_is_new_has_its_own_alone() -> None:
    now = probe([1, 0], [0, 1], [1, 0], [-1, 0])
    found = l2s(now, ROWS, "news", [{"news.2004": 0.8, "plain": 0.5}, {"news.2004": 0.4, "plain": 0.5}])
    weights = {"news.2004": 40 * 0.4, "news.2003": 10 * 1.0, "plain": 0.0}
    total = sum(weights.values())
    assert found.cosines == pytest.approx({"news.2004": 0.0, "news.2003": 1.0, "plain": -1.0})
    assert found.shares == pytest.approx(
        {"news": 0.2} | {task: 0.8 * each / total for task, each in weights.items()}
    )


def test_shares_are_by_size_where_no_period_agrees() -> None:
    by_size = {task: count / 100 for task, count in ROWS.items()}
    assert l2s(probe([1, 0], [-1, 0], [0, 0], [0, 1]), ROWS, "news", []).shares == pytest.approx(by_size)
    assert l2s(probe([0, 0], [1, 0], [1, 0], [0, 1]), ROWS, "news", []).shares == pytest.approx(by_size)


@given(st.integers(0, 2**32))
def test_shares_are_in_the_tasks_order_and_sum_to_1(seed: int) -> None:
    found = l2s(probe(*np.random.default_rng(seed).normal(size=(4, 3)).tolist()), ROWS, "news", [])
    assert list(found.shares) == list(ROWS)
    assert sum(found.shares.values()) == pytest.approx(1)
