"""The groups of the test rows: from limited runs to `fairness.json`, the report and the run's metrics."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from final_model_output import produce_final_model
from forked_training import forked_training
from grouped_data import grouped_data
from selection_output import produce_selection

from gradsift.components.evaluation.answers.answered_runs import AnsweredRuns, read_answered_runs
from gradsift.components.evaluation.groups.group_report import group_report
from gradsift.components.evaluation.step import REPORT, STEP, OptionalParts, evaluate
from gradsift.components.fine_tuning.plan import plan_comparisons
from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.parameters.evaluation import ComparisonConfig, EvaluationConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    RunGroup,
    finished_record,
    run_inputs,
    run_limit,
)
from gradsift.components.shared.records.group_results import UNLIMITED, GroupReport, limited_training
from gradsift.components.shared.records.run_answers import HeldOutAnswers
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.tracking.tracking import track_step

MALE = FairnessConfig(group="male", positive="granted", limit=0.01)
SUBSETS = {"selected": ["credit"], "all": ["reviews", "credit"], "target_only": [], "random": ["credit"]}
CONFIG = EvaluationConfig(bootstrap=100)
RECIPE = TrainingRecipe(steps=3, batch_size=8, precision="float32", processes=1, learning_rate=1e-3)


class LimitedComparison:
    """A run root with limited runs on each compared subset, and those on the chosen one without the limit."""

    def __init__(self, root: Path, encoder: Path) -> None:
        self.root, self.data = root, grouped_data(root)
        model = ModelConfig(base_model=str(encoder), max_length=16)
        self.model = produce_final_model(root, ["loans", "credit"], model, RECIPE)
        self.selection = produce_selection(root, "loans", SUBSETS, dict.fromkeys(SUBSETS, 0.6))
        [self.group] = self.plan(MALE)
        with forked_training(), track_step("comparisons", str(root), {}) as tracker:
            self.records = train_runs(self.group, self.data, str(root), tracker)

    def plan(self, fairness: FairnessConfig | None) -> list[RunGroup]:
        return plan_comparisons(
            ComparisonConfig(seeds=1),
            self.data,
            self.selection,
            self.model,
            str(self.root),
            fairness=fairness,
        )

    def answered(self) -> AnsweredRuns:
        return read_answered_runs([self.group], str(self.root))

    def report(self, answered: AnsweredRuns) -> GroupReport:
        data = PreparedData(fetch(self.data))
        selection = Selection.read(fetch(self.selection))
        return group_report(MALE, CONFIG, data, selection, answered, None)


@pytest.fixture(scope="module")
def comparison(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> LimitedComparison:
    return LimitedComparison(tmp_path_factory.mktemp("groups"), tiny_encoder)


@pytest.fixture(scope="module")
def evaluated(comparison: LimitedComparison) -> StepOutput:
    with track_step(STEP, str(comparison.root), {}) as tracker:
        return evaluate(
            CONFIG,
            comparison.data,
            comparison.selection,
            comparison.model,
            [comparison.group],
            str(comparison.root),
            tracker,
            OptionalParts(fairness=MALE),
        )


def test_a_run_without_the_limit_is_the_run_of_a_pipeline_without_one(comparison: LimitedComparison) -> None:
    [plain] = comparison.plan(None)
    limited = [run_inputs(comparison.group.settings, run) for run in comparison.group.runs]
    free = [run_inputs(plain.settings, run) for run in plain.runs]
    assert [each for each in limited if "fairness" not in each] == [free[0], free[-1]]
    assert [run.unlimited for run in comparison.group.runs] == [False, False, False, True, False]
    assert run_limit(comparison.group.settings, comparison.group.runs[0]) == MALE


def test_limited_runs_are_limited_and_the_comparison_is_not(comparison: LimitedComparison) -> None:
    results = [
        limited_training(json.loads((fetch(record) / "training.json").read_text()))
        for record in comparison.records
    ]
    assert [each is not None for each in results] == [True, True, True, False, False]
    assert results[1] is not None
    assert results[1].unlimited_tasks == ["reviews"]


def test_every_model_is_compared_and_the_gaps_are_those_of_its_answers(
    comparison: LimitedComparison, evaluated: StepOutput
) -> None:
    found = GroupReport.read(fetch(evaluated))
    assert [model.name for model in found.models] == [*SUBSETS, UNLIMITED]
    rows = PreparedData(fetch(comparison.data)).split("loans", "test")
    male = np.array([group is not None and "male" in group.split("|") for group in rows["group"][:]])
    known = np.array([group is not None for group in rows["group"][:]])
    counts = (found.group_rows, found.other_rows, found.rows_without_group)
    assert counts == (male.sum(), (known & ~male).sum(), (~known).sum())
    run = comparison.group.runs[3]
    answers = HeldOutAnswers.read(
        fetch(finished_record(comparison.group.settings, run, str(comparison.root)))
    )
    assert answers.labels is not None
    granted = answers.labels.argmax(1) == 1
    assert found.unlimited is not None
    gap = granted[male].mean() - granted[known & ~male].mean()
    assert found.unlimited.test["parity_gap"].mean == pytest.approx(gap)
    covariance = np.cov(male[known], np.diff(answers.labels.astype(float))[known, 0], bias=True)[0, 1]
    assert found.unlimited.test["covariance"].mean == pytest.approx(covariance, abs=1e-6)
    for model in found.models:
        assert all(each.low <= each.mean <= each.high for each in model.test.values())
    assert found.cost is not None
    assert found.cost.test["covariance"].mean == pytest.approx(
        found.chosen.test["covariance"].mean - covariance, abs=1e-6
    )


def test_the_report_and_the_metrics_say_the_same(evaluated: StepOutput) -> None:
    found, page = GroupReport.read(fetch(evaluated)), (Path(fetch(evaluated)) / REPORT).read_text()
    assert "How the groups are treated" in page
    assert "Chosen sources, no limit" in page
    for warning in found.warnings:
        assert "one label" in warning or "same label" in warning or "test rows are of" in warning
    assert evaluated.metadata["covariance"] == found.chosen.test["covariance"].mean
    assert max(map(len, found.metrics)) <= 25, "Kubeflow cuts longer names"
    assert "fair" not in page.lower().replace("fairness_", "").replace("affair", "")


def test_one_label_and_few_rows_are_warned_of(comparison: LimitedComparison) -> None:
    answered = comparison.answered()
    assert len(comparison.report(answered).warnings) >= 1  # fewer than 30 test rows are male
    constant = np.log(np.tile([0.9, 0.1], (64, 1))).astype(np.float32)
    runs = [
        replace(run, answers=replace(run.answers, labels=constant)) if run.unlimited else run
        for run in answered.runs
    ]
    warnings = comparison.report(replace(answered, runs=runs)).warnings
    assert any("'unconstrained' gives every test row the same label" in warning for warning in warnings)
    assert any("test rows are of group 'male', where 30 are needed" in warning for warning in warnings)
