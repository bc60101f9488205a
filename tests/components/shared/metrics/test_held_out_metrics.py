"""Metrics against scikit-learn's, and what their bootstrap intervals cover."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from gradsift.components.shared.metrics.held_out_metrics import (
    bootstrap_metrics,
    difference,
    held_out,
    interval,
    metrics,
)
from gradsift.components.shared.metrics.scores import LabelScores, RowScores

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@st.composite
def predictions(draw: st.DrawFn) -> tuple[FloatArray, IntArray]:
    """Log-probabilities [n, labels] and answers that need not name every label."""
    labels, rows = draw(st.integers(2, 5)), draw(st.integers(1, 30))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0]))
    answers = generator.integers(0, draw(st.integers(1, labels)), rows)
    return log_softmax(generator.normal(size=(rows, labels)) * scale, axis=1), answers


def scores(logs: FloatArray, answers: IntArray) -> LabelScores:
    return LabelScores(-logs[np.arange(len(answers)), answers], logs.argmax(1), answers, logs.shape[1])


def of_losses(losses: FloatArray) -> RowScores:
    return RowScores({"loss": losses})


@given(predictions())
def test_metrics_are_those_of_scikit_learn(made: tuple[FloatArray, IntArray]) -> None:
    logs, answers = made
    labels, found = list(range(logs.shape[1])), metrics(scores(logs, answers))
    given_labels = logs.argmax(1)
    assert found["loss"] == pytest.approx(log_loss(answers, np.exp(logs), labels=labels))
    assert found["accuracy"] == pytest.approx(accuracy_score(answers, given_labels))
    macro = f1_score(answers, given_labels, labels=labels, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro)
    assert (
        scores(logs, answers).confusion() == confusion_matrix(answers, given_labels, labels=labels).tolist()
    )


@given(predictions(), st.integers(0, 100))
def test_a_bootstrap_sample_is_the_metric_of_the_drawn_rows(
    made: tuple[FloatArray, IntArray], seed: int
) -> None:
    logs, answers = made
    sampled = bootstrap_metrics([scores(logs, answers)], samples=5, seed=seed)
    rows = len(answers)
    counts = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=5)
    for sample, count in enumerate(counts):
        drawn = metrics(scores(np.repeat(logs, count, axis=0), np.repeat(answers, count)))
        assert {name: value[sample] for name, value in sampled.items()} == pytest.approx(drawn)


def test_intervals_cover_the_true_loss_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        one = of_losses(generator.exponential(0.5, size=100) + 1e-9)
        found = held_out([metrics(one)], bootstrap_metrics([one], samples=300, seed=trial))["loss"]
        assert found.low < found.mean < found.high
        hits += found.low <= 0.5 <= found.high
    assert 0.88 <= hits / 200 <= 0.98


def test_differences_are_paired_by_row() -> None:
    """Two models that find the same rows hard differ by less than their own intervals say."""
    generator = np.random.default_rng(1)
    hard = generator.exponential(0.5, size=300)
    models = [of_losses(hard + extra + generator.uniform(0.001, 0.01, 300)) for extra in (0.0, 0.02)]
    sampled = [bootstrap_metrics([model], 500, seed=0) for model in models]
    unpaired = bootstrap_metrics([models[1]], 500, seed=9)
    means = [held_out([metrics(model)], own) for model, own in zip(models, sampled, strict=True)]
    paired = difference("other", means[0], means[1], sampled[0], sampled[1]).test["loss"]
    loose = difference("other", means[0], means[1], sampled[0], unpaired).test["loss"]
    assert paired.high < 0
    assert paired.mean == loose.mean == pytest.approx(-0.02, abs=0.001)
    assert paired.high - paired.low < 0.1 * (loose.high - loose.low)


def test_the_same_predictions_differ_by_exactly_nothing() -> None:
    logs = log_softmax(np.random.default_rng(0).normal(size=(50, 3)), axis=1)
    answers = np.arange(50) % 3
    seeds = [scores(logs, answers), scores(logs * 2, answers)]
    first, second = (bootstrap_metrics(seeds, 100, seed=3) for _ in range(2))
    own = held_out([metrics(each) for each in seeds], first)
    found = difference("other", own, own, first, second)
    assert list(found.test) == ["loss", "accuracy", "macro_f1"]
    for each in found.test.values():
        assert each.model_dump() == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_seeds_are_drawn_too() -> None:
    """Rows that are all alike leave the seeds as the only source of spread."""
    seeds = [of_losses(np.full(40, loss)) for loss in (0.2, 0.4, 0.9)]
    sampled = bootstrap_metrics(seeds, 3000, seed=0)["loss"]
    means = sorted({round(float(loss), 9) for loss in sampled})
    expected = {
        round((a + b + c) / 3, 9) for a in (0.2, 0.4, 0.9) for b in (0.2, 0.4, 0.9) for c in (0.2, 0.4, 0.9)
    }
    assert means == pytest.approx(sorted(expected))
    assert sampled.mean() == pytest.approx(0.5, abs=0.02)
    alone = bootstrap_metrics(seeds[:1], 100, seed=0)["loss"]
    assert np.ptp(alone) < 1e-12


def test_an_interval_is_the_middle_95_percent() -> None:
    found = interval(7.0, np.arange(1001) / 1000)
    assert found.mean == 7.0
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))
    narrower = interval(7.0, np.arange(1001) / 1000, level=0.9)
    assert (narrower.low, narrower.high) == pytest.approx((0.05, 0.95))
