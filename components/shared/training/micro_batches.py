"""How a process divides its rows of an optimizer step into micro-batches."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from pyarrow.compute import list_value_length
from pyarrow.types import is_list

from gradsift.components.shared.models.labels import NO_ANSWER
from gradsift.components.shared.models.task_model import TaskModel, pretrained_in

CPU_ACTIVATION_BYTES = 2**30
"""Largest size of a micro-batch's activations on a CPU."""
BYTES_PER_ACTIVATION = 160
"""Bytes that a token needs per layer and unit of the hidden state, forward and backward.

Measured in float32 on SmolLM2-135M with adapters (158 to 164) and on MiniLM (131 to 159).
"""


def parts_on_cpu(model: TaskModel, rows: int, tokens: int) -> int:
    """Return into how many micro-batches rows are divided, so that their activations fit into a CPU's memory.

    Args:
        model: the model that is trained.
        rows: a process's rows of an optimizer step.
        tokens: the longest row's length.
    """
    config = pretrained_in(model).config.get_text_config()
    layers = config.num_hidden_layers + (
        getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", None) or 0
    )
    size = rows * tokens * layers * config.hidden_size * BYTES_PER_ACTIVATION
    return min(rows, math.ceil(size / CPU_ACTIVATION_BYTES))


def lengths_of(examples: Dataset) -> npt.NDArray[np.int64]:
    """Return how many tokens each example has, [n]: what is read, and a written (last) answer."""
    table = examples.with_format("arrow")[:].combine_chunks()
    read = list_value_length(table["input_ids"]).to_numpy()
    label = table["label"].combine_chunks()
    if not is_list(label.type):
        return read
    starts, ends = label.offsets.to_numpy()[:-1], label.offsets.to_numpy()[1:]
    gaps = np.append(-1, np.flatnonzero(label.values.to_numpy() == NO_ANSWER))
    last_gap = gaps[np.searchsorted(gaps, ends) - 1]
    return read + ends - np.maximum(starts, last_gap + 1)


def by_length_within_steps(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], batch_size: int
) -> npt.NDArray[np.int64]:
    """Sort the rows of each optimizer step by length, so that little padding is computed in a micro-batch.

    Args:
        order: the rows of all steps, [steps x batch_size].
        lengths: every row's length.
        batch_size: rows of a step.

    Returns:
        The same rows in each step, [steps x batch_size].
    """
    steps = order.reshape(-1, batch_size)
    sorting = np.argsort(lengths[steps], axis=1, kind="stable")
    return np.take_along_axis(steps, sorting, axis=1).ravel()


class ComputedTokens(NamedTuple):
    """How many tokens a training takes through the model, and how many of these are padding."""

    tokens: int
    padding: int


def computed_tokens(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], rows_at_once: int
) -> ComputedTokens:
    """Count a training's tokens.

    Args:
        order: the rows of all steps.
        lengths: every row's length.
        rows_at_once: rows of a micro-batch, which is padded to its longest row.
    """
    batches = lengths[order].reshape(-1, rows_at_once)
    computed = int(batches.max(axis=1).sum()) * rows_at_once
    return ComputedTokens(computed, computed - int(batches.sum()))
