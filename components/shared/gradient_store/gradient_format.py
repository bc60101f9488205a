"""The gradient store's format 2: what its header and records say, and how the rows of a shard become a file.

A shard is a safetensors file. It holds, for its n rows in order, `loss` [n], `margin` [n] and `base_margin` [n]
(the margin at the weights that training started from) in float32, with `positions` [n] (number of tokens in the
answer) where answers are tokens, and in the header's dtype `gradient` [n, d] (projected gradient of the loss),
`probe` [n, R, d] (projected gradient of the loss under labels sampled from the model) and, where the store has it,
`hidden` [n, h] (mean-pooled last hidden state). In float16, a float32 scalar beside each of these, for example
`gradient_scale`, is the power of two to multiply by.
`example_id` holds the rows' ids as the bytes of a JSON list, and `header` the sha256 of the store's header, so
that a shard of another store is known as such.
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from safetensors.numpy import save

from gradsift.components.shared.artifacts.step_output import canonical_json, digest_of
from gradsift.components.shared.errors import GradientStoreError

FloatArray = npt.NDArray[np.float32]

# Names that safetensors gives to types.
Answer = Literal["class", "label", "text"]

DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "U8": np.dtype("u1")}

FLOAT32 = {"loss", "margin", "base_margin", "positions"}
"""Names of the arrays that are stored in float32 whatever the header's dtype."""

# The largest number of an array is stored as a float16 from 2^14 to the last below 2^15, just below float16's
# largest, unless the scale would no longer be a normal float32. Were it rounded up to 2^15, the largest float32s
# would come back as infinite.
TOP_EXPONENT, TOP, MIN_SCALE_EXPONENT = 15, 2**15 - 16, -126


class StoreHeader(BaseModel):
    """What a store was made of and how; two stores can be used together only if this is equal.

    Attributes:
        dimension: d, numbers a projected gradient.
        blocks: number of independent projection blocks, each `dimension / blocks` wide.
        probes: R, sampled-label gradients an example.
        hidden: h, numbers of a hidden state; None where the store holds none.
        projection: kind, seed and intermediate width of the projection.
        parameters: names of the parameters in the gradient, in order.
        base_model_digest: sha256 over the files of the pretrained weights.
        model_digest: sha256 of the weights the gradients were taken at (theta*).
        squared_step_norm: |theta* - theta0|^2 over the trained parameters, with theta0 the weights that training
            started from; 0 where the gradients were taken at theta0.
        tokenizer_digest: sha256 over the tokenizer's files.
        data_digest: digest of the prepared data.
        target: name of the target task.
        answer: what answers a row of the target: one `class` of a classifier, the tokens of a `label`'s name, or
            those of free `text`. The rows of all tasks are answered by classes, or all by tokens.
        shard_rows: rows of a full shard.
        precision: what the model computed in.
        dtype: type of the stored gradients, probes and hidden states.
        versions: versions of the libraries that computed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    dimension: int
    blocks: int
    probes: int
    hidden: int | None = None
    projection: dict[str, Any]
    parameters: list[str]
    base_model_digest: str
    model_digest: str
    squared_step_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    tokenizer_digest: str
    data_digest: str
    target: str
    answer: Answer = "class"
    shard_rows: int
    precision: Literal["bf16", "float32"] = "float32"
    dtype: Literal["float16", "float32"] = "float32"
    versions: dict[str, str]

    @cached_property
    def digest(self) -> str:
        """The sha256 of all of it, which every shard carries."""
        return digest_of(self.model_dump())

    def shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the arrays of a shard of so many rows, by name."""
        shapes: dict[str, tuple[int, ...]] = {
            "loss": (rows,),
            "margin": (rows,),
            "base_margin": (rows,),
            "gradient": (rows, self.dimension),
            "probe": (rows, self.probes, self.dimension),
        }
        if self.answer != "class":
            shapes["positions"] = (rows,)
        if self.hidden is not None:
            shapes["hidden"] = (rows, self.hidden)
        return shapes


class ShardRecord(BaseModel):
    """One shard in the manifest: where it is, what it holds, and how to know it is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    task: str
    split: Literal["train", "val"]
    rows: NonNegativeInt
    bytes: NonNegativeInt
    sha256: str


class Sidecar(BaseModel):
    """What lies beside a shard, and says before there is a manifest whose it is and how to know it is whole."""

    header: str
    shard: ShardRecord

    @property
    def content(self) -> bytes:
        """The sidecar as a file."""
        return canonical_json(self.model_dump()).encode()


@dataclass(frozen=True)
class HalfArray:
    """Numbers in float16, each to be multiplied by a scale that is a power of two, which rounds nothing."""

    values: npt.NDArray[np.float16]
    scale: npt.NDArray[np.float32]

    @classmethod
    def of(cls, numbers: FloatArray) -> "HalfArray":
        """Round finite numbers to float16, under the scale that leaves the smallest of them most room."""
        exponent = int(np.frexp(np.abs(numbers).max(initial=0.0))[1])
        scale = np.ldexp(np.float32(1), max(exponent - TOP_EXPONENT, MIN_SCALE_EXPONENT))
        return cls(np.clip(numbers / scale, -TOP, TOP).astype(np.float16), np.array(scale))

    def numbers(self) -> FloatArray:
        """Return the numbers in float32."""
        numbers = self.values.astype(np.float32)
        numbers *= self.scale
        return numbers


class Shard:
    """The rows of one shard: example ids and arrays in the same order.

    Arrays that are stored in float16 become float32 when they are first asked for.

    Attributes:
        example_id: n ids.
        loss: [n], cross-entropy in nats, the mean over the answer's positions.
        margin: [n], log p/(1-p) of the right answer as a whole.
        base_margin: [n], the same at the weights that training started from.
        positions: [n], number of tokens in the answer; 1 where a class is the answer.
    """

    def __init__(
        self,
        example_id: list[str],
        loss: FloatArray,
        margin: FloatArray,
        base_margin: FloatArray,
        gradient: FloatArray | HalfArray,
        probe: FloatArray | HalfArray,
        hidden: FloatArray | HalfArray | None = None,
        positions: FloatArray | None = None,
    ) -> None:
        self.example_id = example_id
        self.loss = loss
        self.margin = margin
        self.base_margin = base_margin
        self.positions = np.ones_like(loss) if positions is None else positions
        self._gradient = gradient
        self._probe = probe
        self._hidden = hidden

    @cached_property
    def gradient(self) -> FloatArray:
        """Projected gradients of the loss, [n, d]."""
        return _float32(self._gradient)

    @cached_property
    def probe(self) -> FloatArray:
        """Projected gradients of the loss under sampled labels, [n, R, d]."""
        return _float32(self._probe)

    @cached_property
    def hidden(self) -> FloatArray | None:
        """Mean-pooled last hidden states, [n, h]; None where the store has none."""
        return None if self._hidden is None else _float32(self._hidden)


def shard_key(task: str, split: str, index: int) -> str:
    """Return the key of a task and split's shard number `index`."""
    return f"{task}/{split}/{index:05d}.safetensors"


def sidecar_key(key: str) -> str:
    """Return the key of the file beside the shard at `key`."""
    return key.removesuffix(".safetensors") + ".json"


def shard_content(header: StoreHeader, example_id: list[str], arrays: dict[str, FloatArray]) -> bytes:
    """Return the file of a shard with these arrays, which must be finite and of the header's shapes."""
    tensors: dict[str, npt.NDArray[Any]] = {
        "example_id": np.frombuffer(canonical_json(example_id).encode(), np.uint8),
        "header": np.frombuffer(bytes.fromhex(header.digest), np.uint8),
    }
    for name, array in arrays.items():
        if _is_half(header, name):
            half = HalfArray.of(array)
            tensors |= {name: half.values, f"{name}_scale": half.scale}
        else:
            tensors[name] = array
    return save(tensors)


def shard_of(content: bytes, header: StoreHeader, rows: int, where: str) -> Shard:
    """Return the shard in a file's content, whose digest was checked; `where` is what errors call it.

    Raises:
        GradientStoreError: it is no shard of a store of this header, or of so many rows.
    """
    try:
        tensors = _tensors(content)
        ids = json.loads(tensors.pop("example_id").tobytes())
        digest = tensors.pop("header").tobytes().hex()
    except (ValueError, KeyError, TypeError) as error:
        raise GradientStoreError(f"The gradient store's shard {where} is no shard: {error!r}.") from error
    expected = _layout(header, rows)
    found = {name: f"{tensor.dtype.name} {list(tensor.shape)}" for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise GradientStoreError(
                f"The gradient store's shard {where} was made for another header: {name} is "
                f"{found.get(name, 'absent')}, expected {expected.get(name, 'absent')}."
            )
    if digest != header.digest or len(ids) != rows:
        raise GradientStoreError(
            f"The gradient store's shard {where} was made for another header, with other weights, data, "
            "tokenizer, projection or settings than the manifest's."
        )
    arrays: dict[str, Any] = {
        name: HalfArray(tensors[name], tensors[f"{name}_scale"]) if _is_half(header, name) else tensors[name]
        for name in header.shapes(rows)
    }
    return Shard(example_id=ids, **arrays)


def _tensors(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a safetensors file as views of its content; safetensors' own `load` copies them."""
    start = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(content[8:start])
    return {
        name: np.frombuffer(
            content,
            DTYPES[entry["dtype"]],
            count=math.prod(entry["shape"]),
            offset=start + entry["data_offsets"][0],
        ).reshape(entry["shape"])
        for name, entry in entries.items()
        if name != "__metadata__"
    }


def _layout(header: StoreHeader, rows: int) -> dict[str, str]:
    """Return type and shape of each of a shard's arrays and scales, as text."""
    layout = {}
    for name, shape in header.shapes(rows).items():
        layout[name] = f"{'float16' if _is_half(header, name) else 'float32'} {list(shape)}"
        if _is_half(header, name):
            layout[f"{name}_scale"] = "float32 []"
    return layout


def row_bytes(header: StoreHeader) -> int:
    """Return the bytes of a row's numbers in a shard."""
    return sum(
        math.prod(shape) * (2 if _is_half(header, name) else 4) for name, shape in header.shapes(1).items()
    )


def _is_half(header: StoreHeader, name: str) -> bool:
    return header.dtype == "float16" and name not in FLOAT32


def _float32(array: FloatArray | HalfArray) -> FloatArray:
    return array.numbers() if isinstance(array, HalfArray) else array
