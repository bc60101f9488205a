"""A whole run that compares two groups: limited training, a limited choice, and the report on both."""

import json
from pathlib import Path

import pytest
from local_command import SMALL, call, command
from planned_run import assert_as_planned, plan_of

from gradsift.components.shared.records.group_results import UNLIMITED, GroupReport, limited_training
from gradsift.components.shared.records.selection_results import Selection


@pytest.mark.exhaustive
def test_a_run_may_limit_how_differently_two_groups_are_treated(tiny_encoder: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    limited = {
        "suite": "demo-groups",
        "target": "census",
        "sources": ["census_private", "census_government", "mr"],
        "fine_tune_start": "meta",
        "fairness_group": "male",
        "fairness_positive": "income above 50 thousand",
        "fairness_limit": 0.01,
        "fairness_limit_estimate": 0.9,
    }
    done = call(command(root, tiny_encoder, **limited))
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = root.glob("evaluation/*/fairness.json")
    groups = GroupReport.read(found.parent)
    assert [model.name for model in groups.models] == ["selected", "all", "target_only", "random", UNLIMITED]
    assert groups.training is not None
    assert "census" in groups.training.tasks
    [theta] = root.glob("meta_training/*/training.json")
    before = limited_training(json.loads(theta.read_text()))
    assert before is not None
    assert groups.training.path[0] == before.path[-1].model_copy(update={"step": 0})
    [choice] = root.glob("choices/*/selection.json")
    selection = Selection.read(choice.parent)
    assert selection.gap_limit == 0.9
    assert all(method.estimated_gap is not None for method in selection.methods)
    report = (root / "report.html").read_text()
    assert "How the groups are treated" in report
    assert "Estimated gap" in report
    assert_as_planned(root, plan_of({**SMALL, **limited, "base_model": str(tiny_encoder)}, root))
    wrong = call(command(tmp_path / "wrong", tiny_encoder, **{**limited, "fairness_group": "elf"}))
    assert wrong.returncode == 2
    assert "Parameter fairness_group is 'elf': expected one of" in " ".join(wrong.stderr.split())
