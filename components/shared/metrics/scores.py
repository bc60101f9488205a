"""What predictions of test rows are worth: every metric, for all rows or for rows counted as often as drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from gradsift.components.shared.metrics.generation_metrics import (
    best,
    exact_match,
    is_number,
    numeric_match,
    rouge_l,
)
from gradsift.components.shared.models.prompt_format import final_answer
from gradsift.components.shared.records.evaluation_results import LOSS
from gradsift.components.shared.records.run_answers import HeldOutAnswers

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Metrics = Mapping[str, FloatArray]
"""Metrics by name, each an array over bootstrap samples."""


@dataclass(frozen=True)
class LabelScores:
    """Rows that one of some labels was given to.

    Attributes:
        losses: loss of each row [n_rows].
        given: index of the label that was given [n_rows].
        answers: index of the right one [n_rows].
        n_labels: number of labels.
    """

    losses: FloatArray
    given: IntArray
    answers: IntArray
    n_labels: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.losses)

    def weighted(self, weights: FloatArray) -> Metrics:
        """Return `loss`, `accuracy` and `macro_f1` under row weights [samples, n_rows].

        Macro F1 is the mean over labels of the F1 score; a label that is neither true nor given counts as 0.
        """
        right = (self.given == self.answers).astype(np.float64)
        f1 = np.zeros(len(weights))
        for label in range(self.n_labels):
            true, given = self.answers == label, self.given == label
            true_positive = weights @ (right * true)
            named = weights @ given.astype(np.float64) + weights @ true.astype(np.float64)
            f1 += np.divide(2 * true_positive, named, out=np.zeros_like(named), where=named > 0)
        means = RowScores({LOSS: self.losses, "accuracy": right}).weighted(weights)
        return {**means, "macro_f1": f1 / self.n_labels}

    def confusion(self) -> list[list[int]]:
        """Return the counts of rows by right label (rows) and given label (columns)."""
        labels = list(range(self.n_labels))
        counts: list[list[int]] = confusion_matrix(self.answers, self.given, labels=labels).tolist()
        return counts


@dataclass(frozen=True)
class RowScores:
    """Rows whose metrics are means over rows.

    Attributes:
        values: by the metric's name, its value for each row [n_rows].
    """

    values: Mapping[str, FloatArray]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.values[LOSS])

    def weighted(self, weights: FloatArray) -> Metrics:
        """Return the mean of every metric under row weights [samples, n_rows]."""
        total = weights.sum(1)
        return {name: weights @ values / total for name, values in self.values.items()}

    def right(self) -> npt.NDArray[np.bool_]:
        """Return which written answers count as right, [n_rows]."""
        return self.values.get("numeric_match", self.values["exact_match"]) == 1


Scores = LabelScores | RowScores


def scores_of(answers: HeldOutAnswers, rows: Any) -> Scores:
    """Return the scores of a model's answers to the target's test rows (see `prepared_data`)."""
    if answers.labels is not None:
        assert answers.label_losses is not None
        right = np.array(rows["label"][:])
        losses = answers.label_losses[np.arange(len(right)), right].astype(np.float64)
        return LabelScores(losses, answers.labels.argmax(1), right, answers.labels.shape[1])
    assert answers.losses is not None
    assert answers.token_accuracy is not None
    assert answers.written is not None
    written = [final_answer(text) for text in answers.written]
    return written_scores(answers.losses, answers.token_accuracy, written, rows["references"][:])


def written_scores(
    losses: npt.NDArray[np.floating],
    token_accuracy: npt.NDArray[np.floating],
    written: Sequence[str],
    references: Sequence[Sequence[str]],
) -> RowScores:
    """Return the scores of written answers.

    Numbers are compared where every row's answer is one.

    Args:
        losses: teacher-forced loss of each row's completion [n_rows].
        token_accuracy: share of its tokens that had the highest score [n_rows].
        written: what was written, without rationales.
        references: each row's right completions.
    """
    numbers = all(is_number(each[0]) for each in references)
    metrics = [*([numeric_match] if numbers else []), rouge_l, exact_match]
    texts = {
        metric.__name__: np.array(
            [best(metric, text, right) for text, right in zip(written, references, strict=True)]
        )
        for metric in metrics
    }
    return RowScores(
        {LOSS: losses.astype(np.float64), **texts, "token_accuracy": token_accuracy.astype(np.float64)}
    )
