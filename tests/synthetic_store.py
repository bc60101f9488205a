"""A small gradient store of random numbers, for tests."""

from typing import Any

import numpy as np

from gradsift.components.shared.gradient_store.gradient_format import Shard, ShardRecord, StoreHeader
from gradsift.components.shared.gradient_store.gradient_store import GradientStoreWriter
from gradsift.components.shared.storage.storage import open_storage


def store_header(**changes: Any) -> StoreHeader:
    fields = {
        "dimension": 6,
        "blocks": 2,
        "probes": 1,
        "projection": {"kind": "fold", "seed": 1},
        "parameters": ["layer.weight"],
        "base_model_digest": "a" * 64,
        "model_digest": "b" * 64,
        "squared_step_norm": 2.5,
        "tokenizer_digest": "c" * 64,
        "data_digest": "d" * 64,
        "target": "target",
        "shard_rows": 4,
        "versions": {"numpy": "2"},
    }
    return StoreHeader.model_validate(fields | changes)


def shard_numbers(rows: int, header: StoreHeader, seed: int = 0) -> dict[str, Any]:
    """Return the arrays of a shard by name, and its rows' ids."""
    generator = np.random.default_rng(seed)
    shapes = header.shapes(rows)
    numbers = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {"example_id": [f"row {index}" for index in range(rows)], **numbers}


def random_shard(rows: int, header: StoreHeader, seed: int = 0) -> Shard:
    return Shard(**shard_numbers(rows, header, seed))


def write_store(uri: str, **changes: Any) -> str:
    """Write two tasks, one of two shards, and return the manifest's digest."""
    header = store_header(**changes)
    with GradientStoreWriter(open_storage(uri), header) as writer:
        return writer.seal(
            [
                writer.write_shard("one", "train", 0, random_shard(4, header, 1)),
                writer.write_shard("one", "train", 1, random_shard(3, header, 2)),
                writer.write_shard("target", "train", 0, random_shard(2, header, 3)),
                writer.write_shard("target", "val", 0, random_shard(4, header, 4)),
            ]
        )


def write_or_resume(uri: str, header: StoreHeader, shards: int) -> list[ShardRecord]:
    """Write a store of one task, or what an earlier call left to write, and return the shards' records."""
    with GradientStoreWriter(open_storage(uri), header) as writer:
        records = [
            writer.finished_shard("target", "train", index)
            or writer.write_shard("target", "train", index, random_shard(header.shard_rows, header, index))
            for index in range(shards)
        ]
        writer.seal(records)
    return records


def same_rows(found: Shard, expected: Shard) -> bool:
    """Say whether two shards of a float32 store without hidden states are equal."""
    names = ("loss", "margin", "base_margin", "gradient", "probe")
    equal = [np.array_equal(getattr(found, name), getattr(expected, name)) for name in names]
    return found.example_id == expected.example_id and all(equal)
