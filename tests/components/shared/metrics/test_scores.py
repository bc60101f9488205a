"""Which metrics written answers have, and how weights count rows."""

import numpy as np
import pytest

from gradsift.components.shared.metrics.scores import RowScores, written_scores


def scores(written: list[str], references: list[list[str]]) -> RowScores:
    losses = np.arange(len(written), dtype=np.float32)
    return written_scores(losses, np.full(len(written), 0.5, dtype=np.float32), written, references)


def test_answers_that_are_numbers_are_compared_as_numbers() -> None:
    found = scores(["It is 1,200.", "3"], [["1200"], ["-3", "4"]])
    assert list(found.values) == ["loss", "numeric_match", "rouge_l", "exact_match", "token_accuracy"]
    assert found.values["numeric_match"].tolist() == [1, 0]
    assert found.values["exact_match"].tolist() == [0, 1]  # punctuation, and with it the sign, does not count
    assert found.right().tolist() == [True, False]


def test_other_answers_are_compared_as_texts_with_the_best_reference() -> None:
    found = scores(["the big dog", "cat"], [["a cat", "big dog"], ["2"]])
    assert list(found.values) == ["loss", "rouge_l", "exact_match", "token_accuracy"]
    assert found.values["exact_match"].tolist() == found.right().tolist() == [1, 0]
    assert found.values["rouge_l"].tolist() == pytest.approx([0.8, 0])


def test_rows_count_as_often_as_their_weights_say() -> None:
    found = scores(["a b", "x", "y"], [["a b"], ["x"], ["z"]]).weighted(np.array([[2.0, 0, 1], [0, 1, 0]]))
    assert found["loss"].tolist() == pytest.approx([2 / 3, 1])
    assert found["exact_match"].tolist() == pytest.approx([2 / 3, 1])
    assert found["token_accuracy"].tolist() == [0.5, 0.5]
