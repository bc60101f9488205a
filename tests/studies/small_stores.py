"""Makes the small gradient stores that the ranks of the default estimate are tested on.

Usage: python tests/studies/small_stores.py STORE ARCHIVE

STORE is a gradient store that a fidelity study left in `gradient_extraction/`, ARCHIVE the tar.xz to write, without
its ending. Every gradient is rounded to few levels, so that it compresses. Probes, of which the default estimate
takes the mean squared length alone, are of this length and one direction. There are no hidden states.
"""

import shutil
import sys
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from gradsift.components.shared.gradient_store.gradient_format import Shard, StoreHeader
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, GradientStoreWriter
from gradsift.components.shared.storage.storage import open_storage

LEVELS = 2.0
"""Levels within the standard deviation of a gradient's numbers, at least; they lie a power of two apart."""


def main(source: str, archive: str) -> None:
    """Write the small store of the store at `source` as an archive."""
    store = GradientStore(source)
    parts = {(record.task, record.split) for record in store.shards}
    shards = {part: list(store.read(*part)) for part in sorted(parts)}
    fields = {"hidden": None, "dtype": "float16"}
    header = StoreHeader.model_validate(store.header.model_dump() | fields)
    with TemporaryDirectory() as folder, GradientStoreWriter(open_storage(folder), header) as writer:
        writer.seal(
            [
                writer.write_shard(task, split, index, _small(shard))
                for (task, split), own in shards.items()
                for index, shard in enumerate(own)
            ]
        )
        shutil.make_archive(archive, "xztar", folder)


def _small(shard: Shard) -> Shard:
    probe = np.zeros_like(shard.probe)
    probe[..., 0] = np.sqrt((shard.probe**2).sum(axis=-1).mean())
    return Shard(
        example_id=shard.example_id,
        loss=shard.loss,
        margin=shard.margin,
        base_margin=shard.base_margin,
        gradient=_rounded(shard.gradient),
        probe=probe,
    )


def _rounded(gradient: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    deviation = np.maximum(gradient.std(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    step = 2 ** np.floor(np.log2(deviation / LEVELS))
    return (np.round(gradient / step) * step).astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
