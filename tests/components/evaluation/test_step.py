"""The whole step on real text with a small encoder: two duplicate subsets, real fine-tuning runs, one report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selection_output import produce_selection

from gradsift.components.evaluation.step import REPORT, STEP, evaluate, rank_correlation
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.evaluation_results import Evaluation
from gradsift.components.shared.tracking.tracking import track_step

SUBSETS = {"selected": ["mr"], "all": ["mr", "trec", "mr_flipped"], "target_only": [], "random": ["mr"]}
ESTIMATES = {"selected": 0.5, "all": 0.6, "target_only": 0.7, "random": 0.5}
CONFIG = EvaluationConfig(seeds=2, max_runs=6, bootstrap=200)


def fine_tuned(root: Path, encoder: Path, data: PreparedData, tasks: list[str]) -> StepOutput:
    """What fine-tuning leaves, without the training."""

    def work(folder: Path) -> dict[str, Any]:
        labels = {task.name: task.labels for task in data.tasks}
        head = Head.for_tasks("label_embedding", 15.0, 32, data.target, labels)
        EncoderClassifier.from_base(find_base_model(str(encoder)), head).save(folder)
        recipe = TrainingRecipe(batch_size=8, precision="float32", processes=1, seed=5)
        result = {
            "tasks": tasks,
            "recipe": recipe.model_dump(),
            "optimizer_steps": 2,
            "model": ModelConfig(base_model=str(encoder)).model_dump(),
        }
        (folder / "training.json").write_text(json.dumps(result))
        return {"base_model": encoder.name}

    return produce(str(root), "target_finetuning", {"tasks": tasks}, work)


def run(root: Path, data: StepOutput, encoder: Path, tasks: list[str]) -> StepOutput:
    model = fine_tuned(root, encoder, PreparedData(Path(data.uri)), tasks)
    chosen = produce_selection(root, "sst2", SUBSETS, ESTIMATES)
    with track_step(STEP, str(root), CONFIG.model_dump()) as tracker:
        return evaluate(CONFIG, data, chosen, model, str(root), tracker)


@pytest.fixture(scope="module")
def finished(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> StepOutput:
    return run(tmp_path_factory.mktemp("run"), prepared_data, tiny_encoder, ["sst2", "mr"])


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


def test_the_given_model_is_the_first_run_of_the_selection(evaluation: Evaluation) -> None:
    """It was not trained at all, hence it predicts as the base model does."""
    assert evaluation.base_model is not None
    base = evaluation.base_model["loss"].mean
    first, second = (run.test["loss"] for run in evaluation.chosen.runs)
    assert first == pytest.approx(base, rel=1e-6)
    assert second != pytest.approx(base, rel=1e-6)


def test_a_subset_that_two_comparisons_share_is_trained_once_and_never_helps(
    finished: StepOutput, evaluation: Evaluation
) -> None:
    assert len(list((Path(finished.uri) / "predictions").iterdir())) == 6
    [jobs] = Path(finished.uri).parents[1].glob("work/*-processes/jobs.json")
    trained = [(job["tasks"][1:], job["recipe"]["seed"]) for job in json.loads(jobs.read_text())]
    assert trained == [(["mr"], 6), (SUBSETS["all"], 5), (SUBSETS["all"], 6), ([], 5), ([], 6)]
    [same] = [each for each in evaluation.difference_to if each.name == "random"]
    assert same.test["loss"].model_dump() == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert not evaluation.verdict.helped
    assert "no clear difference in test loss to" in evaluation.verdict.text


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
    assert metadata["loss_change_from_random"] == 0.0
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


def test_a_second_evaluation_finds_the_first(
    finished: StepOutput, prepared_data: StepOutput, tiny_encoder: Path
) -> None:
    again = run(Path(finished.uri).parents[1], prepared_data, tiny_encoder, ["sst2", "mr"])
    assert again == replace(finished, reused=True)


def test_a_model_of_another_selection_is_an_error(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"was fine-tuned on sst2, trec: expected the target .* sst2, mr\.$"):
        run(tmp_path, prepared_data, tiny_encoder, ["sst2", "trec"])
