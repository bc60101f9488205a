"""The whole step on real text with a small encoder: two duplicate subsets, real fine-tuning runs, one report."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from final_model_output import produce_final_model
from forked_training import forked_training
from selection_output import produce_selection

from gradsift.components.evaluation import step
from gradsift.components.evaluation.answers.answered_runs import read_answered_runs
from gradsift.components.evaluation.step import REPORT, STEP, evaluate, rank_correlation
from gradsift.components.fine_tuning.plan import plan_comparisons
from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError, NotFoundError
from gradsift.components.shared.models.model_answers import held_out_answers
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.parameters.evaluation import ComparisonConfig, EvaluationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.evaluation_results import Evaluation
from gradsift.components.shared.records.fine_tuning_runs import FineTuningRun, RunGroup, finished_record
from gradsift.components.shared.records.run_answers import HeldOutAnswers
from gradsift.components.shared.tracking.tracking import track_step

SUBSETS = {"selected": ["mr"], "all": ["mr", "trec", "mr_flipped"], "target_only": [], "random": ["mr"]}
ESTIMATES = {"selected": 0.5, "all": 0.6, "target_only": 0.7, "random": 0.5}
CONFIG = EvaluationConfig(bootstrap=200)
RECIPE = TrainingRecipe(steps=2, batch_size=8, precision="float32", processes=1, seed=5)


class Comparison:
    """A run root with all that the step needs."""

    def __init__(self, root: Path, data: StepOutput, encoder: Path, tasks: list[str]) -> None:
        self.root = root
        self.data = data
        self.base = ModelConfig(base_model=str(encoder))
        self.model = produce_final_model(root, tasks, self.base, RECIPE)
        self.selection = produce_selection(root, "sst2", SUBSETS, ESTIMATES)
        config = ComparisonConfig(seeds=2, max_runs=6)
        self.groups = plan_comparisons(config, data, self.selection, self.model, str(root))

    def train(self) -> None:
        for group in self.groups:
            with (
                forked_training(),
                track_step(f"comparisons-{group.number}", str(self.root), {}) as tracker,
            ):
                train_runs(group, self.data, str(self.root), tracker)

    def evaluate(self, groups: list[RunGroup] | None = None) -> StepOutput:
        with track_step(STEP, str(self.root), CONFIG.model_dump()) as tracker:
            return evaluate(
                CONFIG,
                self.data,
                self.selection,
                self.model,
                self.groups if groups is None else groups,
                str(self.root),
                tracker,
            )


@pytest.fixture(scope="module")
def comparison(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Comparison:
    comparison = Comparison(tmp_path_factory.mktemp("run"), prepared_data, tiny_encoder, ["sst2", "mr"])
    comparison.train()
    return comparison


@pytest.fixture(scope="module")
def finished(comparison: Comparison) -> StepOutput:
    return comparison.evaluate()


@pytest.fixture(scope="module")
def evaluation(finished: StepOutput) -> Evaluation:
    """The file is read back through its model, which refuses numbers that are not finite."""
    return Evaluation.read(fetch(finished))


def test_every_comparison_is_measured_with_every_seed(evaluation: Evaluation) -> None:
    assert {model.name: model.subset for model in evaluation.models} == SUBSETS
    assert all([run.seed for run in model.runs] == [5, 6] for model in evaluation.models)
    assert (evaluation.seeds, evaluation.optimizer_steps, evaluation.batch_size) == (2, 2, 8)
    for model in evaluation.models:
        assert model.estimated_loss == ESTIMATES[model.name]
        assert list(model.test) == ["loss", "accuracy", "macro_f1"]
        for name, metric in model.test.items():
            assert metric.low <= metric.mean <= metric.high
            runs = [run.test[name] for run in model.runs]
            assert metric.mean == pytest.approx(sum(runs) / 2)
        losses = [run.val_loss for run in model.runs]
        assert model.true_val_loss == pytest.approx(sum(losses) / 2)
        assert model.true_val_loss_sd == pytest.approx(abs(losses[0] - losses[1]) / 2**0.5)
    assert evaluation.confusion is not None
    assert sum(map(sum, evaluation.confusion.matrix)) == evaluation.test_rows
    assert evaluation.samples == []


def test_the_metrics_are_those_of_the_runs_answers(comparison: Comparison, evaluation: Evaluation) -> None:
    rows = PreparedData(fetch(comparison.data)).split("sst2", "test")
    right = np.array(rows["label"][:])
    for group in comparison.groups:
        for planned in group.runs:
            folder = fetch(finished_record(group.settings, planned, str(comparison.root)))
            labels = HeldOutAnswers.read(folder).labels
            assert labels is not None
            found = [
                run
                for model in evaluation.models
                if planned.steps and set(model.subset) == set(planned.subset)
                for run in model.runs
                if run.seed == planned.seed
            ]
            assert bool(found) == bool(planned.steps)
            for run in found:
                assert run.val_loss == FineTuningRun.read(folder).val_loss
                assert run.test["loss"] == pytest.approx(-labels[np.arange(len(right)), right].mean())
                assert run.test["accuracy"] == pytest.approx((labels.argmax(1) == right).mean())


def test_the_base_model_is_measured_before_training(comparison: Comparison, evaluation: Evaluation) -> None:
    data = PreparedData(fetch(comparison.data))
    labels = held_out_answers(from_base(comparison.base, data), data, "float32").labels
    assert labels is not None
    right = np.array(data.split("sst2", "test")["label"][:])
    assert evaluation.base_model is not None
    loss = -labels[np.arange(len(right)), right].mean()
    assert evaluation.base_model["loss"].mean == pytest.approx(loss, rel=1e-6)
    assert all(run.test["loss"] != pytest.approx(loss, rel=1e-6) for run in evaluation.chosen.runs)


def test_the_evaluation_names_what_the_runs_start_from(
    comparison: Comparison, finished: StepOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = read_answered_runs(comparison.groups, str(comparison.root))
    from_meta = replace(answered, settings=answered.settings.model_copy(update={"start": "meta"}))
    starts = {}
    for start, runs in (("base", answered), ("meta", from_meta)):
        monkeypatch.setattr(step, "read_answered_runs", lambda groups, root, runs=runs: runs)
        with track_step(STEP, str(tmp_path / start), {}) as tracker:
            inputs = (comparison.data, comparison.selection, comparison.model, comparison.groups)
            output = evaluate(CONFIG, *inputs, str(tmp_path / start), tracker)
        page = (fetch(output) / REPORT).read_text()
        starts[Evaluation.read(fetch(output)).start] = "the meta-trained model fine-tuned" in page
    assert starts == {"base": False, "meta": True}


def test_a_subset_that_two_comparisons_share_never_helps(evaluation: Evaluation) -> None:
    [same] = [each for each in evaluation.difference_to if each.name == "random"]
    assert same.test["loss"].model_dump() == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert not evaluation.verdict.helped
    assert "it is the same as a random subset of the same size" in evaluation.verdict.text


def test_differences_are_the_selection_minus_the_others(evaluation: Evaluation) -> None:
    assert [each.name for each in evaluation.difference_to] == ["all", "target_only", "random"]
    for each in evaluation.difference_to:
        other = evaluation.model_of(each.name)
        assert other is not None
        for name, found in each.test.items():
            assert found.mean == pytest.approx(evaluation.chosen.test[name].mean - other.test[name].mean)
            assert found.low <= found.mean <= found.high


def test_the_report_and_the_metrics_say_the_same(finished: StepOutput, evaluation: Evaluation) -> None:
    report = (Path(finished.uri) / REPORT).read_text()
    assert report.lstrip().lower().startswith("<!doctype html>")
    assert evaluation.verdict.text in report
    metadata = finished.metadata
    assert metadata["verdict"] == evaluation.verdict.text
    assert metadata["test_accuracy"] == evaluation.chosen.test["accuracy"].mean
    assert metadata["loss_minus_random"] == 0.0
    assert max(map(len, metadata)) <= 25, "Kubeflow cuts longer names"
    assert evaluation.spearman is not None
    assert -1 <= evaluation.spearman <= 1
    assert metadata["spearman"] == evaluation.spearman


def test_the_rank_correlation_is_defined_only_where_values_differ(evaluation: Evaluation) -> None:
    losses = {"all": 0.3, "target_only": 0.2, "random": 0.1}
    models = [
        model.model_copy(update={"true_val_loss": losses[model.name]})
        for model in evaluation.models
        if model.name in losses
    ]
    assert rank_correlation(models) == pytest.approx(0.5)
    equal = [model.model_copy(update={"true_val_loss": 0.4}) for model in models]
    assert rank_correlation(equal) is None
    assert rank_correlation(models[:1]) is None


def test_a_second_evaluation_finds_the_first(comparison: Comparison, finished: StepOutput) -> None:
    assert comparison.evaluate() == replace(finished, reused=True)


def test_nothing_of_the_step_needs_torch() -> None:
    code = "import sys, gradsift.components.evaluation.step; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_comparison_without_runs_is_an_error(comparison: Comparison) -> None:
    groups = [
        group.model_copy(update={"runs": [run for run in group.runs if run.subset == ["mr"]]})
        for group in comparison.groups
    ]
    with pytest.raises(
        InputError, match="No fine-tuning run is on the target and mr, trec, mr_flipped: expected"
    ):
        comparison.evaluate(groups)


def test_a_run_that_is_not_finished_is_an_error(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="no finished fine-tuning run at"):
        Comparison(tmp_path, prepared_data, tiny_encoder, ["sst2", "mr"]).evaluate()


def test_a_model_of_another_selection_is_an_error(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"was fine-tuned on sst2, trec: expected the target .* sst2, mr\.$"):
        Comparison(tmp_path, prepared_data, tiny_encoder, ["sst2", "trec"]).evaluate()
