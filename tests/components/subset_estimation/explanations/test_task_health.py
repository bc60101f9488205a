"""Health of tasks whose labels are known to be right, random or wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from gradsift.components.shared.data.prepared_data import (
    PreparedData,
    PreparedTask,
    TaskKind,
    write_index,
    write_split,
)
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.subset_estimation.estimators.ridge import Ridge
from gradsift.components.subset_estimation.explanations.task_health import (
    MAX_ROWS,
    MIN_ROWS,
    task_health,
    worse_than_guessing,
)

RIDGE = Ridge(per_row=0.01, reference_rows=None)


def binary(synthetic: Any, kind: str, rows: int = 120, seed: int = 0) -> Any:
    """Rows of inputs x with a label that is the sign of x.u, random, or against what the base weights say."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(rows, 6))
    direction = np.ones(6)
    right = np.where(inputs @ direction > 0, 1.0, -1.0)
    labels = {"clean": right, "flipped": -right, "random": generator.choice([-1.0, 1.0], rows)}[kind]
    features = labels[:, None] * inputs
    base = 1.5 * labels * right  # what the labels' names say of the texts
    return _WithBase(synthetic.Rows(0.2 * generator.normal(size=rows), features), base), labels


class _WithBase:
    """Rows whose margins at the base weights are given."""

    def __init__(self, rows: Any, base_margin: Any) -> None:
        self._rows, self.base_margin = rows, base_margin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)


def health_of(synthetic: Any, folder: Path, tasks: dict[str, Any], kind: TaskKind = "classification") -> Any:
    """Return the health of tasks, each given as rows and labels of -1 and 1, by name."""
    problem = synthetic.Problem(
        {name: rows for name, (rows, _) in tasks.items()},
        binary(synthetic, "clean", seed=99)[0],
        binary(synthetic, "clean", seed=98)[0],
    )
    store = problem.write(folder / "store")
    prepared = []
    for name, (_, labels) in tasks.items():
        rows = [
            {"id": str(row), "text": "t", "label": int(label > 0), "prompt": "p", "completion": "c"}
            for row, label in enumerate(labels)
        ]
        write_split(folder / "data", name, "train", rows, kind)
        names = ["no", "yes"] if kind == "classification" else []
        prepared.append(PreparedTask(name=name, kind=kind, labels=names, rows={"train": len(rows)}))
    write_index(folder / "data", "suite", "target", prepared)
    found = task_health(
        GradientStore(store.uri, store.digest), problem.statistics(), RIDGE, PreparedData(folder / "data")
    )
    return {health.task: health for health in found}


def test_random_and_flipped_labels_are_found_and_clean_ones_are_not(synthetic: Any, tmp_path: Path) -> None:
    kinds = ["clean", "random", "flipped"]
    found = health_of(
        synthetic, tmp_path, {kind: binary(synthetic, kind, seed=seed) for seed, kind in enumerate(kinds)}
    )
    assert "random_labels" in found["random"].findings
    assert found["flipped"].findings == ["contradicted_labels", "opposed"]
    assert found["clean"].findings == []
    assert (found["clean"].against, found["flipped"].against) == ("flipped", "target")
    assert found["clean"].adapted < 0.6 < 0.9 < found["random"].adapted
    assert found["clean"].zero_shot < 1 < found["flipped"].zero_shot


def test_the_loss_after_adaptation_is_that_of_rows_held_out(synthetic: Any, tmp_path: Path) -> None:
    rows, labels = binary(synthetic, "clean")
    found = health_of(synthetic, tmp_path, {"clean": (rows, labels)})["clean"]
    halves = np.random.default_rng(0).permutation(len(labels)) % 2 == 0
    losses, rows_losses, guesses = [], [], []
    share = (labels > 0).mean()
    for half in (halves, ~halves):

        def objective(w: Any, half: Any = half) -> float:
            margin = rows.base_margin[half] + rows.feature[half] @ w
            return float(np.logaddexp(0, -margin).sum() + RIDGE.per_row * half.sum() / 2 * w @ w)

        w = minimize(objective, np.zeros(6), tol=1e-10).x
        rows_losses.append(np.logaddexp(0, -(rows.base_margin[~half] + rows.feature[~half] @ w)))
        guesses.append(-np.log(np.where(labels[~half] > 0, share, 1 - share)))
        losses.append(rows_losses[-1].mean())
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert found.adapted == pytest.approx(np.mean(losses) / entropy, rel=1e-4)
    gains = np.concatenate(rows_losses) / entropy - np.concatenate(guesses) / entropy
    assert found.adapted_error == pytest.approx(gains.std(ddof=1) / np.sqrt(len(gains)), rel=1e-3)
    assert found.zero_shot == pytest.approx(np.logaddexp(0, -rows.base_margin).mean() / np.log(2), rel=1e-5)


def test_a_source_that_is_only_too_hard_has_no_finding(synthetic: Any, tmp_path: Path) -> None:
    """The labels do not depend on the features, and the untrained model favours no label."""
    generator = np.random.default_rng(5)
    labels = generator.choice([-1.0, 1.0], 120)
    rows = synthetic.Rows(np.zeros(120), 0.01 * labels[:, None] * generator.normal(size=(120, 6)))
    hard = (_WithBase(rows, np.zeros(120)), labels)
    found = health_of(synthetic, tmp_path, {"hard": hard, "random": binary(synthetic, "random", seed=2)})
    assert found["hard"].adapted == pytest.approx(1, abs=0.05)
    assert not {"random_labels", "contradicted_labels"} & set(found["hard"].findings)
    assert "random_labels" in found["random"].findings


@pytest.mark.parametrize("worse", [0, 10])
def test_sources_at_the_level_of_guessing_are_rarely_said_to_be_worse(worse: int) -> None:
    """Thirty sources are no worse than guessing, others are far worse; of the named ones, 5% are not worse."""
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        values = 1 + 0.05 * generator.normal(size=30 + worse)
        values[30:] += 0.5
        named = np.array(worse_than_guessing([(float(value), 0.05) for value in values]))
        assert named[30:].all()
        shares.append(named[:30].sum() / max(1, named.sum()))
    assert 0.01 < np.mean(shares) < 0.08


def test_what_is_not_known_is_not_said_to_be_worse() -> None:
    assert worse_than_guessing([(None, None), (1.5, None), (1.5, 0.0), (1.5, 0.05)]) == [
        False,
        False,
        False,
        True,
    ]


def test_a_copy_is_named_on_both_sides(synthetic: Any, tmp_path: Path) -> None:
    one = binary(synthetic, "clean", seed=1)
    other = binary(synthetic, "random", seed=2)
    found = health_of(synthetic, tmp_path, {"one": one, "copy": one, "other": other})
    assert (found["one"].duplicate_of, found["copy"].duplicate_of) == ("copy", "one")
    assert "duplicate" in found["one"].findings
    assert found["other"].duplicate_of is None


def test_few_rows_one_label_and_free_text_say_nothing_of_labels(synthetic: Any, tmp_path: Path) -> None:
    few = binary(synthetic, "random", rows=MIN_ROWS - 1)
    rows, labels = binary(synthetic, "clean")
    found = health_of(synthetic, tmp_path, {"few": few, "one": (rows, np.abs(labels))})
    assert [health.adapted for health in found.values()] == [None, None]
    assert found["few"].rows == MIN_ROWS - 1
    text = health_of(synthetic, tmp_path / "text", {"text": (rows, labels)}, "generation")["text"]
    assert (text.rows, text.adapted, text.zero_shot) == (0, None, None)


def test_a_large_task_is_judged_by_its_first_rows(synthetic: Any, tmp_path: Path) -> None:
    clean, random = (binary(synthetic, kind, rows=MAX_ROWS) for kind in ("clean", "random"))
    both = synthetic.Rows(
        np.concatenate([clean[0].margin, random[0].margin]),
        np.concatenate([clean[0].feature, random[0].feature]),
    )
    found = health_of(synthetic, tmp_path, {"long": (both, np.concatenate([clean[1], random[1]]))})["long"]
    assert found.rows == MAX_ROWS
    assert found.adapted < 0.6
