"""Group metrics equal a slower independent computation, row by row."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.evaluation.groups.group_scores import GroupScores, group_scores
from gradsift.components.shared.metrics.held_out_metrics import metrics
from gradsift.components.shared.parameters.fairness import Space
from gradsift.components.shared.records.run_answers import HeldOutAnswers


def answered(rows: int, seed: int) -> tuple[HeldOutAnswers, Any, Any]:
    """Return answers to rows, the right labels, and each row's group, some without one."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(rows, 2)).astype(np.float32)
    labels = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    members = generator.choice([0.0, 1.0, np.nan], rows)
    members[:2] = 0, 1
    return HeldOutAnswers(labels=labels), generator.integers(2, size=rows), members


def share(values: list[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def gap(group: list[bool], others: list[bool]) -> float | None:
    one, other = share(group), share(others)
    return None if one is None or other is None else one - other


@given(
    rows=st.integers(2, 40),
    seed=st.integers(0, 1000),
    positive=st.sampled_from([0, 1]),
    space=st.sampled_from(["margin", "probability"]),
)
def test_metrics_of_all_rows_are_those_counted_one_by_one(
    rows: int, seed: int, positive: int, space: Space
) -> None:
    answers, right, members = answered(rows, seed)
    found = metrics(group_scores(answers, right, positive, members, space))
    assert answers.labels is not None
    given, known = answers.labels.argmax(1), [row for row in range(rows) if not np.isnan(members[row])]
    favoured = {z: [given[row] == positive for row in known if members[row] == z] for z in (0, 1)}
    accurate = {z: [given[row] == right[row] for row in known if members[row] == z] for z in (0, 1)}

    def among(deserving: bool) -> float | None:
        chosen = [row for row in known if (right[row] == positive) == deserving]
        inside, outside = ([given[row] == positive for row in chosen if members[row] == z] for z in (1, 0))
        return gap(inside, outside)

    margins = np.log(np.exp(answers.labels[:, positive]) / np.exp(answers.labels[:, 1 - positive]))
    decisions = margins[known] if space == "margin" else 1 / (1 + np.exp(-margins[known]))
    expected = {
        "accuracy": share(accurate[0] + accurate[1]),
        "accuracy_group": share(accurate[1]),
        "accuracy_others": share(accurate[0]),
        "favoured_group": share(favoured[1]),
        "favoured_others": share(favoured[0]),
        "parity_gap": gap(favoured[1], favoured[0]),
        "true_positive_gap": among(True),
        "false_positive_gap": among(False),
        "covariance": np.cov(members[known], decisions, bias=True)[0, 1],
    }
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(np.nan if value is None else value, abs=1e-5, nan_ok=True), name


def test_a_row_counts_as_often_as_it_is_drawn() -> None:
    answers, right, members = answered(12, 3)
    scores = group_scores(answers, right, 1, members, "margin")
    draws = np.random.default_rng(0).integers(0, 3, size=scores.rows)
    repeated = np.repeat(np.arange(scores.rows), draws)
    rows = (scores.members, scores.favoured, scores.deserving, scores.decisions)
    counted = {name: value[0] for name, value in scores.weighted(draws[None].astype(float)).items()}
    assert counted == pytest.approx(metrics(GroupScores(*(each[repeated] for each in rows))), nan_ok=True)
