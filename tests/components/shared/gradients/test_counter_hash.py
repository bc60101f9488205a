"""The random numbers behind every projection: fixed values, since a change of them would alter every store."""

import numpy as np
import pytest

from gradsift.components.shared.gradients.counter_hash import (
    random_bits,
    random_signs,
    stream_key,
    uniforms,
)

MASK = 2**64 - 1


def splitmix64(state: int) -> int:
    """The published step, in Python integers."""
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ state >> 27) * 0x94D049BB133111EB & MASK
    return state ^ state >> 31


def test_the_reference_gives_the_published_sequence() -> None:
    states = [(1234567 + 0x9E3779B97F4A7C15 * step) & MASK for step in (1, 2, 3)]
    assert [splitmix64(state) for state in states] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_a_stream_is_splitmix64_from_the_key_of_its_name() -> None:
    key = int(stream_key(5, "offset/encoder.layer.0"))
    expected = [splitmix64((key + 0x9E3779B97F4A7C15 * step) & MASK) for step in range(1, 101)]
    assert random_bits(5, "offset/encoder.layer.0", 100).tolist() == expected


def test_values_never_change() -> None:
    assert stream_key(0, "signs/a") == 0xE3D81294D9EF4B10
    assert random_bits(0, "signs/a", 3).tolist() == [
        0x32A891E5A3988880,
        0x88D4B6DAA59ECFB0,
        0x97882D21C281B004,
    ]
    assert random_bits(12345678901, "é/2", 2).tolist() == [0xABA38D8C2E161081, 0x68FC0E945E0A1DB2]
    signs = [1, -1, -1, -1, -1, -1, 1, -1, 1, 1, -1, -1, -1, -1, 1, 1, -1, 1, 1, -1]
    assert random_signs(7, "dense", 20).tolist() == signs
    assert uniforms(3, "label/sst2/train-1/0", 1).tolist() == [0.30755591484272815]


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_a_shorter_stream_is_the_start_of_a_longer_one(count: int) -> None:
    assert random_bits(1, "a", count).tolist() == random_bits(1, "a", 2000)[:count].tolist()
    assert random_signs(1, "a", count).tolist() == random_signs(1, "a", 2000)[:count].tolist()


def test_signs_are_balanced_and_independent() -> None:
    """Every sum of n independent signs has standard deviation sqrt(n)."""
    count = 1_000_000
    streams = [(0, "signs/a"), (0, "signs/b"), (1, "signs/a"), (0, "outputs/a")]
    signs = [random_signs(seed, name, count).astype(np.int64) for seed, name in streams]
    assert all(set(np.unique(each)) == {-1, 1} for each in signs)
    sums = [each.sum() for each in signs]
    sums += [first @ second for i, first in enumerate(signs) for second in signs[:i]]
    sums += [signs[0][lag:] @ signs[0][:-lag] for lag in (1, 2, 8, 63, 64, 65, 384)]
    assert max(abs(total) for total in sums) < 4 * count**0.5


def test_uniform_numbers_fill_the_interval() -> None:
    values = np.concatenate([uniforms(0, f"label/{index}", 2) for index in range(2000)])
    assert 0 <= values.min() < 0.01 < 0.99 < values.max() < 1
    assert np.abs(np.histogram(values, bins=10, range=(0, 1))[0] - 400).max() < 4 * 400**0.5
