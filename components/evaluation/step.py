"""The step: compare the chosen model with others on held-out data, and write the report."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from gradsift.components.evaluation.config import EvaluationConfig
from gradsift.components.evaluation.held_out_metrics import (
    Metrics,
    bootstrap_metrics,
    confusion,
    difference,
    held_out,
    metrics,
)
from gradsift.components.evaluation.predictions import (
    SPLITS,
    FineTuning,
    Predictions,
    predict_all,
    predict_base,
)
from gradsift.components.evaluation.report import ReportContent, RunFacts, render_report
from gradsift.components.evaluation.verdict import judge
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.prepared_data import PreparedData
from gradsift.components.shared.results import (
    Confusion,
    EvaluatedModel,
    Evaluation,
    HeldOutMetrics,
    SeedRun,
    Selection,
)
from gradsift.components.shared.run_record import run_settings
from gradsift.components.shared.step_output import StepOutput, fetch, produce
from gradsift.components.shared.storage import atomic_file
from gradsift.components.shared.tracking import StepTracker, run_id
from gradsift.components.shared.trained_model import training_result
from gradsift.components.shared.training_recipe import ModelConfig, TrainingRecipe

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

    Returns:
        A folder with `evaluation.json`, `report.html` and each run's predictions.
    """
    inputs = {
        "config": asdict(config),
        "data": data.digest,
        "estimates": estimates.digest,
        "model": model.digest,
    }

    def work(output: Path) -> dict[str, Any]:
        prepared = PreparedData(fetch(data))
        selection = Selection.read(fetch(estimates, [Selection.FILE]))
        evaluation = _evaluate(config, prepared, selection, model, output, tracker)
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
) -> Evaluation:
    trained = training_result(model)
    _check_trained_on(trained["tasks"], selection, model)
    recipe = replace(TrainingRecipe(**trained["recipe"]), steps=trained["optimizer_steps"])
    model_config = ModelConfig(**trained["model"])
    seeds = config.seeds_for(len({frozenset(subset) for subset in selection.comparisons.values()}))
    runs = {
        name: [FineTuning(subset, recipe.seed + offset) for offset in range(seeds)]
        for name, subset in selection.comparisons.items()
    }
    first = runs[CHOSEN][0].key
    all_runs = [run for same_subset in runs.values() for run in same_subset]
    predictions = predict_all(all_runs, {first: fetch(model)}, data, model_config, recipe, output, tracker)
    base = predict_base(data, model_config, recipe.precision)
    answers: dict[str, Any] = {
        split: np.array(data.split(data.target, split)["label"][:], dtype=np.int64) for split in SPLITS
    }
    by_name = {
        name: {run.seed: predictions[run.key] for run in same_subset} for name, same_subset in runs.items()
    }
    sampled = {
        name: bootstrap_metrics(
            [one["test"] for one in seed_runs.values()], answers["test"], config.bootstrap, config.seed
        )
        for name, seed_runs in by_name.items()
    }
    models = {
        name: _evaluated_model(name, selection, by_name[name], answers, sampled[name])
        for name in selection.comparisons
    }
    differences = [
        difference(name, models[CHOSEN], other, sampled[CHOSEN], sampled[name])
        for name, other in models.items()
        if name != CHOSEN
    ]
    labels = data.task(data.target).labels
    return Evaluation(
        target=data.target,
        labels=labels,
        val_rows=len(answers["val"]),
        test_rows=len(answers["test"]),
        optimizer_steps=recipe.steps,
        batch_size=recipe.batch_size,
        seeds=seeds,
        models=list(models.values()),
        base_model=_base_metrics(base, answers["test"], config),
        confusion=Confusion(labels=labels, matrix=confusion(predictions[first]["test"], answers["test"])),
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
    runs: Mapping[int, Predictions],
    answers: Mapping[str, Any],
    sampled: Metrics,
) -> EvaluatedModel:
    val = {seed: metrics(one["val"], answers["val"]) for seed, one in runs.items()}
    test = {seed: metrics(one["test"], answers["test"]) for seed, one in runs.items()}
    losses = [float(one.loss) for one in val.values()]
    estimate = selection.estimate_of(name)
    found = held_out([one["test"] for one in runs.values()], answers["test"], sampled)
    return EvaluatedModel(
        name=name,
        subset=selection.comparisons[name],
        runs=[
            SeedRun(
                seed=seed,
                val_loss=float(val[seed].loss),
                test_loss=float(test[seed].loss),
                test_accuracy=float(test[seed].accuracy),
                test_macro_f1=float(test[seed].macro_f1),
            )
            for seed in runs
        ],
        **dict(found),
        true_val_loss=float(np.mean(losses)),
        true_val_loss_sd=float(np.std(losses, ddof=1)) if len(losses) > 1 else 0.0,
        estimated_loss=estimate.estimated_loss,
        estimated_standard_error=estimate.standard_error,
    )


def _base_metrics(base: Predictions | None, answers: Any, config: EvaluationConfig) -> HeldOutMetrics | None:
    if base is None:
        return None
    sampled = bootstrap_metrics([base["test"]], answers, config.bootstrap, config.seed)
    return held_out([base["test"]], answers, sampled)


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
    chosen = evaluation.chosen
    values: dict[str, Any] = {
        "target": evaluation.target,
        "helped": evaluation.verdict.helped,
        "verdict": evaluation.verdict.text,
        "test_loss": chosen.test_loss.mean,
        "test_accuracy": chosen.test_accuracy.mean,
        "test_macro_f1": chosen.test_macro_f1.mean,
    }
    for each in evaluation.difference_to:
        values[f"accuracy_gain_over_{each.name}"] = each.accuracy.mean
        values[f"loss_change_from_{each.name}"] = each.loss.mean
    if evaluation.spearman is not None:
        values["spearman"] = evaluation.spearman
    return values
