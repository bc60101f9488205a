"""Micro-batches fit into a CPU's memory, and hold rows of like length."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers import BertConfig, BertModel, PreTrainedModel, T5Config, T5Model

from gradsift.components.shared.models.labels import NO_ANSWER
from gradsift.components.shared.training.micro_batches import (
    BYTES_PER_ACTIVATION,
    CPU_ACTIVATION_BYTES,
    by_length_within_steps,
    computed_tokens,
    lengths_of,
    parts_on_cpu,
)

BERT = BertModel(
    BertConfig(vocab_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
)
T5 = T5Model(T5Config(vocab_size=8, d_model=32, d_ff=8, d_kv=16, num_layers=2, num_heads=2))
STEPS = st.integers(1, 5).flatmap(
    lambda rows: arrays(
        np.int64, st.integers(0, 8).map(lambda steps: steps * rows), elements=st.integers(0, 9)
    ).map(lambda order: (rows, order))
)
LENGTHS = arrays(np.int64, 10, elements=st.integers(1, 30))


@pytest.mark.parametrize(("model", "layers"), [(BERT, 2), (T5, 4)])
def test_a_batch_is_divided_where_its_activations_need_more_than_the_limit(
    model: PreTrainedModel, layers: int
) -> None:
    fits = CPU_ACTIVATION_BYTES // (32 * layers * BYTES_PER_ACTIVATION)
    task_model: Any = SimpleNamespace(modules=model.modules)
    found = [
        parts_on_cpu(task_model, rows, tokens) for rows, tokens in [(1, fits), (2, fits), (4, fits // 4 + 1)]
    ]
    assert found == [1, 2, 2]
    assert parts_on_cpu(task_model, 3, 10 * fits) == 3


def test_lengths_count_the_answer() -> None:
    encoder = Dataset.from_dict({"input_ids": [[1, 2], [1]], "label": [0, 1]})
    written = Dataset.from_dict({"input_ids": [[1, 2], [1]], "label": [[3], [4, 5, 6]]})
    assert lengths_of(encoder).tolist() == [2, 1]
    assert lengths_of(written.select([1, 0, 1])).tolist() == [4, 3, 4]


def test_lengths_count_earlier_answers_once() -> None:
    labels = [[7, NO_ANSWER, NO_ANSWER, 8, 9], [3], [NO_ANSWER, 5], [4, 4]]
    examples = Dataset.from_dict({"input_ids": [[1] * 9, [1], [1] * 3, [1]], "label": labels})
    assert lengths_of(examples).tolist() == [11, 2, 4, 3]


@given(STEPS, LENGTHS)
def test_every_step_keeps_its_rows_from_the_shortest_to_the_longest(
    steps: tuple[int, np.ndarray], lengths: np.ndarray
) -> None:
    rows, order = steps
    sorted_steps = by_length_within_steps(order, lengths, rows).reshape(-1, rows)
    assert np.array_equal(np.sort(sorted_steps), np.sort(order.reshape(-1, rows)))
    assert (np.diff(lengths[sorted_steps], axis=1) >= 0).all()


def test_padding_is_what_rows_lack_to_the_longest_of_their_micro_batch() -> None:
    lengths = np.array([3, 1, 5, 5])
    assert computed_tokens(np.array([0, 1, 2, 3]), lengths, 2) == (16, 2)
    assert computed_tokens(np.array([0, 2, 1, 3]), lengths, 2) == (20, 6)
