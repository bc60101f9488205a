"""Health of tasks whose labels are known to be right, random or wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import entropy

from gradsift.components.shared.data.prepared_data import (
    PreparedData,
    PreparedTask,
    TaskKind,
    write_index,
    write_split,
)
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.records.selection_results import TaskHealth
from gradsift.components.subset_estimation.estimators.ridge import Ridge
from gradsift.components.subset_estimation.explanations.label_correlation import label_correlation
from gradsift.components.subset_estimation.explanations.task_health import (
    MAX_ROWS,
    MIN_ROWS,
    findings_of,
    task_health,
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
    rows = {"clean": 120, "random": 480, "flipped": 120}
    found = health_of(
        synthetic,
        tmp_path,
        {kind: binary(synthetic, kind, rows[kind], seed) for seed, kind in enumerate(kinds)},
    )
    on_labels = {"random_labels", "contradicted_labels"}
    assert [on_labels & set(found[kind].findings) for kind in kinds] == [
        set(),
        {"random_labels"},
        {"contradicted_labels"},
    ]
    assert "opposed" in found["flipped"].findings
    assert (found["clean"].against, found["flipped"].against) == ("flipped", "target")
    assert found["clean"].adapted < 0.6 < 0.9 < found["random"].adapted
    assert found["clean"].zero_shot < 1 < found["flipped"].zero_shot
    assert found["flipped"].named < 0 < found["clean"].named


def test_the_loss_after_adaptation_is_that_of_rows_held_out(synthetic: Any, tmp_path: Path) -> None:
    rows, labels = binary(synthetic, "clean")
    found = health_of(synthetic, tmp_path, {"clean": (rows, labels)})["clean"]
    shuffled = np.random.default_rng(0).permutation(len(labels))
    halves = np.zeros(len(labels), bool)
    halves[[*shuffled[labels[shuffled] < 0], *shuffled[labels[shuffled] > 0]][::2]] = True
    margin, share, label = np.empty(len(labels)), (labels > 0).mean(), (labels > 0).astype(int)
    for half in (halves, ~halves):

        def objective(w: Any, half: Any = half) -> float:
            margin = rows.base_margin[half] + rows.feature[half] @ w
            return float(np.logaddexp(0, -margin).sum() + RIDGE.per_row * half.sum() / 2 * w @ w)

        w = minimize(objective, np.zeros(6), tol=1e-10).x
        margin[~half] = rows.base_margin[~half] + rows.feature[~half] @ w
    assert found.adapted == pytest.approx(
        np.logaddexp(0, -margin).mean() / entropy([share, 1 - share]), rel=1e-4
    )
    learned, named = label_correlation(margin, label, 2), label_correlation(rows.base_margin, label, 2)
    assert (found.learned, found.learned_error) == pytest.approx(learned, rel=1e-4)
    assert (found.named, found.named_error) == pytest.approx(named, rel=1e-4)
    assert found.zero_shot == pytest.approx(np.logaddexp(0, -rows.base_margin).mean() / np.log(2), rel=1e-5)


def test_a_model_that_is_sure_of_wrong_answers_contradicts_no_names(synthetic: Any, tmp_path: Path) -> None:
    """Its loss is far above that of guessing, but it is wrong about as many rows as it is right about."""
    generator = np.random.default_rng(5)
    rows, labels = binary(synthetic, "clean", rows=240)
    sure = (_WithBase(rows._rows, 4 * generator.normal(size=240)), labels)
    found = health_of(synthetic, tmp_path, {"sure": sure})["sure"]
    assert found.zero_shot > 1.8
    assert abs(found.named) < 2 * found.named_error
    assert "contradicted_labels" not in found.findings


@pytest.mark.parametrize(
    ("learned", "named", "error", "findings"),
    [
        (0.02, 0.02, 0.04, ["random_labels"]),
        (0.02, 0.02, 0.1, []),
        (0.2, 0.02, 0.02, []),
        (0.4, -0.2, 0.06, ["contradicted_labels"]),
        (0.4, -0.2, 0.1, []),
        (0.4, -0.04, 0.001, []),
        (None, None, None, []),
    ],
)
def test_labels_are_found_where_chance_and_a_small_difference_do_not_explain_them(
    learned: float | None, named: float | None, error: float | None, findings: list[str]
) -> None:
    errors = {"learned_error": error, "named_error": error}
    health = TaskHealth(task="source", rows=100, learned=learned, named=named, **errors)
    assert findings_of(health) == findings


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
