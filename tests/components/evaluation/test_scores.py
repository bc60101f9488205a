"""Which metrics written answers have, and how weights count rows."""

import numpy as np
import pytest

from gradsift.components.evaluation.samples import EACH, draw_samples
from gradsift.components.evaluation.scores import RowScores, written_scores


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


def test_samples_show_some_right_and_some_wrong_rows_of_each_as_they_are() -> None:
    rows = {
        "id": [f"row {row}" for row in range(40)],
        "prompt": [f"prompt {row}" for row in range(40)],
        "references": [[f"answer {row}", "other"] for row in range(40)],
    }
    written = [f"written {row}" for row in range(40)]
    right = np.arange(40) % 3 == 0
    drawn = draw_samples(rows, written, right, seed=1)
    numbers = [int(each.id.split()[1]) for each in drawn]
    assert numbers == sorted(set(numbers))
    assert sum(each.right for each in drawn) == sum(not each.right for each in drawn) == EACH
    for row, each in zip(numbers, drawn, strict=True):
        assert (each.prompt, each.written) == (f"prompt {row}", f"written {row}")
        assert (each.expected, each.right) == ([f"answer {row}", "other"], bool(right[row]))
    assert drawn == draw_samples(rows, written, right, seed=1)
    assert drawn != draw_samples(rows, written, right, seed=2)
    assert len(draw_samples(rows, written, np.zeros(40, dtype=bool), seed=1)) == EACH
    assert not draw_samples(rows, [], np.zeros(0, dtype=bool), seed=1)
