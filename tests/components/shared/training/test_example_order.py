"""The order of examples: shares, rounds and shuffles."""

from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.training.example_order import example_order, shares_by_size

ROWS = st.lists(st.integers(1, 40), min_size=1, max_size=6).map(
    lambda counts: {f"task{index}": count for index, count in enumerate(counts)}
)
EXPONENTS = st.floats(0, 1)
SEEDS = st.integers(0, 2**32)


def order_by_size(rows: dict[str, int], examples: int, exponent: float, seed: int) -> np.ndarray:
    return example_order(rows, shares_by_size(rows, exponent), examples, seed)


def task_of(rows: dict[str, int], order: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.cumsum(list(rows.values())), order, side="right")


@given(ROWS, st.integers(1, 500), EXPONENTS, SEEDS)
def test_an_order_has_its_length_valid_rows_and_is_decided_by_its_seed(
    rows: dict[str, int], examples: int, exponent: float, seed: int
) -> None:
    order = order_by_size(rows, examples, exponent, seed)
    assert order.shape == (examples,)
    assert order.min() >= 0
    assert order.max() < sum(rows.values())
    assert (order == order_by_size(rows, examples, exponent, seed)).all()


def one_row_at_a_time(rows: dict[str, int], examples: int, exponent: float, seed: int) -> list[int]:
    """The same order, one row after the other."""
    generator = np.random.default_rng(seed)

    def endless(count: int) -> Iterator[int]:
        while True:
            yield from generator.permutation(count).tolist()

    counts = np.array(list(rows.values()))
    weights = counts.astype(float) ** exponent
    ends = np.round(np.cumsum(weights) / weights.sum() * counts.sum(), 9)
    rounds = [endless(count) for count in counts]
    order: list[int] = []
    while len(order) < examples:
        shares = np.diff(np.floor(ends + generator.random()), prepend=0).astype(int)
        one_pass = []
        for task, share in enumerate(shares):
            one_pass += [int(counts[:task].sum()) + next(rounds[task]) for _ in range(share)]
        order += generator.permutation(one_pass).tolist()
    return order[:examples]


@given(ROWS, st.integers(0, 500), EXPONENTS, SEEDS)
def test_an_order_is_that_of_one_row_at_a_time(
    rows: dict[str, int], examples: int, exponent: float, seed: int
) -> None:
    expected = one_row_at_a_time(rows, examples, exponent, seed)
    assert order_by_size(rows, examples, exponent, seed).tolist() == expected


@given(ROWS, st.integers(0, 4), SEEDS)
def test_exponent_1_uses_every_row_once_in_every_pass(rows: dict[str, int], passes: int, seed: int) -> None:
    total = sum(rows.values())
    order = order_by_size(rows, passes * total, 1.0, seed).reshape(passes, total)
    assert (np.sort(order, axis=1) == np.arange(total)).all()


@given(ROWS, st.integers(1, 5), EXPONENTS, SEEDS)
def test_a_task_gets_its_share_of_every_pass_within_one_row(
    rows: dict[str, int], passes: int, exponent: float, seed: int
) -> None:
    counts = np.array(list(rows.values()))
    order = order_by_size(rows, passes * counts.sum(), exponent, seed)
    weights = counts.astype(float) ** exponent
    shares = weights / weights.sum() * counts.sum()
    for one_pass in task_of(rows, order).reshape(passes, -1):
        assert (np.abs(np.bincount(one_pass, minlength=len(rows)) - shares) <= 1 + 1e-6).all()


@given(ROWS, st.data(), st.integers(1, 5), SEEDS)
def test_given_shares_hold_in_every_pass_and_a_share_of_0_leaves_a_task_out(
    rows: dict[str, int], data: st.DataObject, passes: int, seed: int
) -> None:
    values = data.draw(st.lists(st.floats(0, 9), min_size=len(rows), max_size=len(rows)))
    values[data.draw(st.integers(0, len(rows) - 1))] += 1
    total = sum(rows.values())
    order = example_order(rows, dict(zip(rows, values, strict=True)), passes * total, seed)
    for one_pass in task_of(rows, order).reshape(passes, -1):
        used = np.bincount(one_pass, minlength=len(rows))
        assert (np.abs(used - np.array(values) / sum(values) * total) <= 1 + 1e-6).all()
        assert not used[np.array(values) == 0].any()


@given(st.integers(1, 40), st.integers(1, 4), SEEDS)
def test_exponent_0_gives_equal_shares(first: int, others: int, seed: int) -> None:
    rows = {"big": 4 * first * others} | {f"small{index}": first for index in range(others)}
    examples = 50 * sum(rows.values())
    used = np.bincount(task_of(rows, order_by_size(rows, examples, 0.0, seed)))
    assert np.abs(used - examples / len(rows)).max() <= 50


@given(ROWS, st.integers(1, 5), EXPONENTS, SEEDS)
def test_no_row_is_used_twice_before_all_of_its_task_were_used_once(
    rows: dict[str, int], passes: int, exponent: float, seed: int
) -> None:
    total = sum(rows.values())
    order = order_by_size(rows, passes * total, exponent, seed)
    for number, count in enumerate(rows.values()):
        start = sum(list(rows.values())[:number])
        used = np.bincount(order[task_of(rows, order) == number] - start, minlength=count)
        assert used.max() - used.min() <= 1


def test_an_order_is_shuffled_across_tasks_and_seeds() -> None:
    rows = {"a": 50, "b": 50}
    order = order_by_size(rows, 100, 1.0, 0)
    assert (order != order_by_size(rows, 100, 1.0, 1)).any()
    assert 15 < (order[:50] < 50).sum() < 35
    assert (np.diff(order) < 0).any()
