"""The step: compare the chosen model with others on held-out data, and write the report."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from gradsift.components.evaluation.answers.predictions import FineTuning, predict_all, predict_base
from gradsift.components.evaluation.answers.samples import draw_samples
from gradsift.components.evaluation.report.report import ReportContent, RunFacts, render_report
from gradsift.components.evaluation.report.verdict import judge
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.metrics.held_out_metrics import (
    bootstrap_metrics,
    difference,
    held_out,
    metrics,
)
from gradsift.components.shared.metrics.scores import LabelScores, Metrics, RowScores, Scores, scores_of
from gradsift.components.shared.models.model_answers import ModelAnswers
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.evaluation_results import (
    LOSS,
    Confusion,
    EvaluatedModel,
    Evaluation,
    Interval,
    SeedRun,
)
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.event_log import run_id
from gradsift.components.shared.tracking.run_record import run_settings
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.trained_model import training_result
from gradsift.components.shared.training.training import Launcher

STEP = "evaluation"
REPORT = "report.html"
CHOSEN = "selected"


def evaluate(
    config: EvaluationConfig,
    data: StepOutput,
    estimates: StepOutput,
    model: StepOutput,
    root_uri: str,
    tracker: StepTracker,
    launch: Launcher = launch_processes,
) -> StepOutput:
    """Train what the chosen model is compared with, measure all on the test split, and write the report.

    Every run takes the chosen model's number of optimizer steps and recipe; seeds count up from its seed.

    Args:
        config: how often each comparison is trained.
        data: the prepared data.
        estimates: the estimation step's output, which names the subsets to compare.
        model: the fine-tuned model, the first run of `selected`.
        root_uri: the run root.
        tracker: gets progress, metrics and the report.
        launch: where training runs (see `train`).

    Returns:
        A folder with `evaluation.json`, `report.html` and each run's predictions.
    """
    inputs = {
        "config": config.model_dump(),
        "data": data.digest,
        "estimates": estimates.digest,
        "model": model.digest,
    }

    def work(output: Path) -> dict[str, Any]:
        prepared = PreparedData(fetch(data))
        selection = Selection.read(fetch(estimates, [Selection.FILE]))
        evaluation = _evaluate(config, prepared, selection, model, output, tracker, launch)
        evaluation.write(output)
        content = _report_content(prepared, selection, evaluation, model, root_uri)
        with atomic_file(output / REPORT) as path:
            path.write_text(render_report(content), encoding="utf-8")
        return _metadata(evaluation)

    result = produce(root_uri, STEP, inputs, work)
    tracker.artifact(result, REPORT)
    tracker.artifact(result, Evaluation.FILE)
    tracker.artifact(estimates, Selection.FILE)
    return result


def _evaluate(
    config: EvaluationConfig,
    data: PreparedData,
    selection: Selection,
    model: StepOutput,
    output: Path,
    tracker: StepTracker,
    launch: Launcher,
) -> Evaluation:
    trained = training_result(model)
    _check_trained_on(trained["tasks"], selection, model)
    recipe = TrainingRecipe(**trained["recipe"]).model_copy(update={"steps": trained["optimizer_steps"]})
    model_config = ModelConfig(**trained["model"])
    seeds = config.seeds_for(len({frozenset(subset) for subset in selection.comparisons.values()}))
    runs = {
        name: [FineTuning(subset, recipe.seed + offset) for offset in range(seeds)]
        for name, subset in selection.comparisons.items()
    }
    first = runs[CHOSEN][0].key
    all_runs = [run for same_subset in runs.values() for run in same_subset]
    answers = predict_all(
        all_runs, {first: fetch(model)}, data, model_config, recipe, output, tracker, launch
    )
    base = predict_base(data, model_config, recipe.precision)
    rows = data.split(data.target, "test")
    scores = {key: scores_of(each, rows) for key, each in answers.items()}
    sampled = {
        name: bootstrap_metrics([scores[run.key] for run in same_subset], config.bootstrap, config.seed)
        for name, same_subset in runs.items()
    }
    models = {
        name: _evaluated_model(name, selection, same_subset, answers, scores, sampled[name])
        for name, same_subset in runs.items()
    }
    differences = [
        difference(name, models[CHOSEN].test, other.test, sampled[CHOSEN], sampled[name])
        for name, other in models.items()
        if name != CHOSEN
    ]
    labels, chosen = data.task(data.target).labels, scores[first]
    return Evaluation(
        target=data.target,
        labels=labels,
        val_rows=data.task(data.target).rows["val"],
        test_rows=len(rows),
        optimizer_steps=recipe.steps,
        batch_size=recipe.batch_size,
        seeds=seeds,
        models=list(models.values()),
        base_model=None if base is None else _base_metrics(scores_of(base, rows), config),
        confusion=(
            Confusion(labels=labels, matrix=chosen.confusion()) if isinstance(chosen, LabelScores) else None
        ),
        samples=(
            draw_samples(rows, answers[first].written or [], chosen.right(), config.seed)
            if isinstance(chosen, RowScores)
            else []
        ),
        spearman=rank_correlation(list(models.values())),
        verdict=judge(differences, seeds),
        difference_to=differences,
    )


def _check_trained_on(tasks: list[str], selection: Selection, model: StepOutput) -> None:
    expected = [selection.target, *selection.selected]
    if tasks != expected:
        raise InputError(
            f"The model at {model.uri} was fine-tuned on {', '.join(tasks)}: expected the target and the "
            f"selection, {', '.join(expected)}."
        )


def _evaluated_model(
    name: str,
    selection: Selection,
    runs: list[FineTuning],
    answers: Mapping[str, ModelAnswers],
    scores: Mapping[str, Scores],
    sampled: Metrics,
) -> EvaluatedModel:
    seed_runs = [
        SeedRun(
            seed=run.seed,
            val_loss=float(answers[run.key].val_loss.mean(dtype=np.float64)),
            test=metrics(scores[run.key]),
        )
        for run in runs
    ]
    losses = [run.val_loss for run in seed_runs]
    estimate = selection.estimate_of(name)
    return EvaluatedModel(
        name=name,
        subset=selection.comparisons[name],
        runs=seed_runs,
        test=held_out([run.test for run in seed_runs], sampled),
        true_val_loss=float(np.mean(losses)),
        true_val_loss_sd=float(np.std(losses, ddof=1)) if len(losses) > 1 else 0.0,
        estimated_loss=estimate.estimated_loss,
        estimated_standard_error=estimate.standard_error,
    )


def _base_metrics(scores: Scores, config: EvaluationConfig) -> dict[str, Interval]:
    return held_out([metrics(scores)], bootstrap_metrics([scores], config.bootstrap, config.seed))


def rank_correlation(models: list[EvaluatedModel]) -> float | None:
    """Return Spearman's correlation of estimated with true validation losses, or None where one is constant."""
    estimated = [model.estimated_loss for model in models]
    true = [model.true_val_loss for model in models]
    if len(set(estimated)) < 2 or len(set(true)) < 2:
        return None
    return float(spearmanr(estimated, true).statistic)


def _report_content(
    data: PreparedData, selection: Selection, evaluation: Evaluation, model: StepOutput, root_uri: str
) -> ReportContent:
    settings, seconds = run_settings(root_uri, run_id())
    packages = ("gradsift", "kfp", "torch", "transformers", "deepspeed", "numpy", "mlflow")
    return ReportContent(
        selection=selection,
        evaluation=evaluation,
        statistics=json.loads((data.folder / "statistics.json").read_text()),
        settings=settings,
        versions={name: version(name) for name in packages},
        seconds=seconds,
        run=RunFacts(
            run_id=run_id(),
            created=datetime.now(UTC),
            base_model=model.metadata["base_model"],
            suite=data.suite,
        ),
    )


def _metadata(evaluation: Evaluation) -> dict[str, Any]:
    values: dict[str, Any] = {
        "target": evaluation.target,
        "helped": evaluation.verdict.helped,
        "verdict": evaluation.verdict.text,
    }
    for name, found in evaluation.chosen.test.items():
        values[f"test_{name}"] = found.mean
    metric = evaluation.primary
    for each in evaluation.difference_to:
        values[f"{metric}_gain_over_{each.name}"] = each.test[metric].mean
        values[f"loss_change_from_{each.name}"] = each.test[LOSS].mean
    if evaluation.spearman is not None:
        values["spearman"] = evaluation.spearman
    return values
