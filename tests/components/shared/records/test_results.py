import json
import re
from pathlib import Path
from typing import Any

import pytest

from gradsift.components.shared.errors import InputError, StorageError
from gradsift.components.shared.records.evaluation_results import Evaluation
from gradsift.components.shared.records.results import ResultFile
from gradsift.components.shared.records.selection_results import Selection

INTERVAL = {"mean": 0.9, "low": 0.88, "high": 0.92}
METRICS = {"loss": INTERVAL, "accuracy": INTERVAL, "macro_f1": INTERVAL}
ESTIMATE = {"estimated_loss": 0.4, "standard_error": 0.01}
ESTIMATED = {"estimated_loss": 0.4, "calibrated_loss": 0.5}


def selection() -> dict[str, Any]:
    return {
        "suite": "classification",
        "target": "sst2",
        "method": "forward_stepwise",
        "estimator": "gauss_newton",
        "ridge": 0.1,
        "ridge_scaling": "per_row",
        "auxiliary_tasks": ["mr", "trec"],
        "selected": ["mr"],
        **ESTIMATE,
        "reason": "mr lowered the estimated loss most.",
        "path": [
            {"action": "start", "task": None, "removed": None, "subset": [], **ESTIMATE},
            {"action": "add", "task": "mr", "removed": None, "subset": ["mr"], **ESTIMATE},
        ],
        "task_scores": [{"task": "mr", "score": 0.05, "standard_error": 0.01, "selected": True}],
        "methods": [{"method": "all", "subset": ["mr", "trec"], **ESTIMATE}],
        "comparisons": {"selected": ["mr"], "all": ["mr", "trec"], "target_only": []},
        "subsets_estimated": 4,
        "seconds": 0.1,
    }


def explained() -> dict[str, Any]:
    run = {"subset": ["mr"], "seed": 0, "true_loss": 0.4, "true_accuracy": None, **ESTIMATED}
    errors = {"error_raw": 0.1, "error_calibrated": 0.05, "error_constant": 0.2}
    line = {"slope": 0.9, "intercept": 0.1, "spearman": 0.8, "kendall": None}
    calibration = {"runs": [run], "estimator": "logistic", "ridge": 3.0, "expansion": "theta_star"}
    surrogate = {"held_out_r2": 0.9, "held_out_spearman": None, "subsets": 12}
    return selection() | {
        "task_scores": [{"task": "mr", "score": 0.05, "standard_error": 0, "selected": True, "share": 0.9}],
        "ties": [{"method": "all", "subset": ["mr", "trec"], **ESTIMATE}],
        "synergy": {"tasks": ["mr", "trec"], "values": [[0, 0.1], [0.1, 0]]},
        "task_map": {"tasks": ["sst2", "mr", "trec"], "x": [0, 1, 2], "y": [0, 0, 1], "cluster": [0, 0, 1]},
        "surrogates": [
            {"kind": "linear", "coefficients": {"mr": -0.1}, **surrogate},
            {"kind": "rbf", "coefficients": {}, **surrogate},
        ],
        "calibration": {**calibration, **errors, **line},
    }


def evaluation() -> dict[str, Any]:
    run = {"seed": 0, "val_loss": 0.3, "test": {"loss": 0.31, "accuracy": 0.9, "macro_f1": 0.9}}
    model = {
        "test": METRICS,
        "name": "selected",
        "subset": ["mr"],
        "runs": [run],
        "true_val_loss": 0.3,
        "true_val_loss_sd": 0.0,
        "estimated_loss": 0.4,
        "estimated_standard_error": 0.01,
    }
    return {
        "target": "sst2",
        "labels": ["negative", "positive"],
        "val_rows": 481,
        "test_rows": 1000,
        "optimizer_steps": 600,
        "batch_size": 32,
        "seeds": 1,
        "models": [model, model | {"name": "all"}],
        "base_model": METRICS,
        "confusion": {"labels": ["negative", "positive"], "matrix": [[450, 50], [50, 450]]},
        "spearman": None,
        "verdict": {"helped": True, "text": "It helped."},
        "difference_to": [{"name": "all", "test": METRICS}],
    }


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Selection, selection),
        (Selection, explained),
        (Evaluation, evaluation),
    ],
)
def test_file_reads_back_as_it_was_written(kind: type[ResultFile], content: Any, tmp_path: Path) -> None:
    written = kind.model_validate(content())
    written.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [kind.FILE]
    assert kind.read(tmp_path) == written


def test_estimates_count_as_uncalibrated_unless_said() -> None:
    assert not Selection.model_validate(selection()).calibrated


def test_a_selection_may_lack_what_came_later() -> None:
    record = Selection.model_validate(selection())
    assert (record.ties, record.surrogates) == ([], [])
    assert (record.synergy, record.task_map, record.calibration) == (None, None, None)
    assert record.task_scores[0].share is None


def test_models_are_found_by_name() -> None:
    record = Evaluation.model_validate(evaluation())
    assert record.chosen.name == "selected"
    assert record.model_of("all") == record.models[1]
    assert record.model_of("random") is None
    assert record.shares == ["accuracy", "macro_f1"]
    assert record.primary == "accuracy"


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (Selection, selection() | {"ridge": -1}, r"selection\.json is not valid at ridge: .*greater than"),
        (Selection, selection() | {"seconds": float("nan")}, "at seconds"),
        (Selection, selection() | {"method": "guess"}, "at method"),
        (Selection, selection() | {"selectd": []}, "at selectd"),
        (Selection, selection() | {"selected": ["snli"]}, "'snli' is not among the auxiliary tasks"),
        (
            Selection,
            explained() | {"synergy": {"tasks": ["mr"], "values": [[0, 1]]}},
            r"at synergy: .*expected 1 by 1 values",
        ),
        (
            Selection,
            explained() | {"task_map": {"tasks": ["mr"], "x": [0], "y": [], "cluster": [0]}},
            r"at task_map: .*one x, y and cluster per task",
        ),
        (
            Selection,
            selection() | {"task_scores": [selection()["task_scores"][0] | {"share": 1.1}]},
            r"at task_scores\.0\.share",
        ),
        (Evaluation, evaluation() | {"models": []}, "expected a model called 'selected'"),
        (
            Evaluation,
            evaluation() | {"confusion": {"labels": ["a", "b"], "matrix": [[1, 2], [3]]}},
            r"evaluation\.json is not valid at confusion: .*2 by 2",
        ),
        (Evaluation, evaluation() | {"base_model": {"loss": INTERVAL}}, "the same for every model"),
        (
            Evaluation,
            evaluation() | {"difference_to": [{"name": "all", "test": METRICS | {"f1": INTERVAL}}]},
            "the same for every model",
        ),
        (Evaluation, evaluation() | {"verdict": {"helped": True}}, r"at verdict\.text"),
    ],
)
def test_wrong_content_is_named(
    kind: type[ResultFile], content: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / kind.FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        kind.read(tmp_path)


def test_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "selection.json").write_text("{")
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/selection.json is not valid at the file")):
        Selection.read(tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"evaluation\.json: it does not exist"):
        Evaluation.read(tmp_path)
