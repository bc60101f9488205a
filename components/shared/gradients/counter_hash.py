"""Random numbers as a function of (seed, name, index): the same on every machine, in any order."""

import hashlib

import numpy as np
import numpy.typing as npt

# Constants of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def stream_key(seed: int, name: str) -> np.uint64:
    """Return the 64-bit start of the stream that belongs to a seed and a name."""
    return np.uint64(int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "little"))


def random_bits(seed: int, name: str, count: int) -> npt.NDArray[np.uint64]:
    """Return `count` 64-bit numbers: SplitMix64 at the counters 1 to `count`, [count]."""
    with np.errstate(over="ignore"):
        state = np.arange(1, count + 1, dtype=np.uint64)
        state *= _GAMMA
        state += stream_key(seed, name)
        state ^= state >> np.uint64(30)
        state *= _MIX_1
        state ^= state >> np.uint64(27)
        state *= _MIX_2
        state ^= state >> np.uint64(31)
    return state


def random_signs(seed: int, name: str, count: int) -> npt.NDArray[np.int8]:
    """Return `count` independent signs, +1 or -1 with equal probability, [count]."""
    words = random_bits(seed, name, -(-count // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")[:count]
    return (bits.astype(np.int8) << 1) - np.int8(1)


def uniforms(seed: int, name: str, count: int) -> npt.NDArray[np.float64]:
    """Return `count` numbers in [0, 1), [count]."""
    return (random_bits(seed, name, count) >> np.uint64(11)) / 2.0**53
