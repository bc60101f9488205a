"""The step: compare the chosen model with others on held-out data, and write the report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from gradsift.components.evaluation.answers.answered_runs import (
    AnsweredRun,
    AnsweredRuns,
    read_answered_runs,
    read_validation,
)
from gradsift.components.evaluation.answers.samples import draw_samples
from gradsift.components.evaluation.groups.group_report import group_report
from gradsift.components.evaluation.kernel.expansion import Expansion
from gradsift.components.evaluation.report.doubts import cautions, objections
from gradsift.components.evaluation.report.report import ReportContent, RunFacts, render_report
from gradsift.components.evaluation.report.verdict import judge
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import STATISTICS, PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.metrics.held_out_metrics import (
    bootstrap_metrics,
    difference,
    held_out,
    metrics,
)
from gradsift.components.shared.metrics.scores import LabelScores, Metrics, RowScores, Scores, scores_of
from gradsift.components.shared.parameters.evaluation import EvaluationConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.training import Start
from gradsift.components.shared.records.evaluation_results import (
    LOSS,
    AllLayers,
    Confusion,
    EvaluatedModel,
    Evaluation,
    Interval,
    SeedRun,
)
from gradsift.components.shared.records.fine_tuning_runs import RunGroup, run_inputs
from gradsift.components.shared.records.group_results import GroupReport, limited_training
from gradsift.components.shared.records.kernel_report import KernelReport
from gradsift.components.shared.records.run_answers import ValidationAnswers
from gradsift.components.shared.records.sampling_schedule import SamplingSchedule
from gradsift.components.shared.records.scope_sweep import ScopeSweep
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.records.source_clusters import SourceClusters
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.event_log import run_id
from gradsift.components.shared.tracking.run_record import run_settings
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.trained_model import training_result

STEP = "evaluation"
REPORT = "report.html"
CHOSEN = "selected"
ALL_LAYERS = "all_layers"


@dataclass(frozen=True)
class OptionalParts:
    """What the optional parts of the report are made from; a part whose input is None is left out.

    Attributes:
        expansion: what the estimates expand around, for a kernel report.
        sweep: which layers were tried.
        sampled: the meta-trained model, where a sampler drew its rows.
        fairness: which groups of test rows are compared.
    """

    expansion: Expansion | None = None
    sweep: StepOutput | None = None
    sampled: StepOutput | None = None
    fairness: FairnessConfig | None = None


NO_PARTS = OptionalParts()


def evaluate(
    config: EvaluationConfig,
    data: StepOutput,
    estimates: StepOutput,
    model: StepOutput,
    groups: Sequence[RunGroup],
    root_uri: str,
    tracker: StepTracker,
    optional: OptionalParts = NO_PARTS,
) -> StepOutput:
    """Compare the runs of the chosen subset with the others on the test split, and write the report.

    Nothing is trained, and models are loaded for the kernel report alone: the runs have answered the test inputs.

    Args:
        config: how intervals are made.
        data: the prepared data.
        estimates: the estimation step's output, which names the subsets to compare.
        model: the final model, the first run of `selected`.
        groups: the runs of all comparisons, finished by now.
        root_uri: the run root.
        tracker: gets metrics and the report.
        optional: what the report's optional parts are made from.

    Returns:
        A folder with `evaluation.json`, `report.html` and, where they are made, `kernel_report.json` and
        `fairness.json`.

    Raises:
        InputError: the model was not fine-tuned on the selection, a comparison has no runs, or the groups of the
            target's rows cannot be compared.
        NotFoundError: a run is not finished.
        GradientStoreError: a kernel report is to be made, and the gradient store is unfinished or altered.
    """
    expansion, fairness = optional.expansion, optional.fairness
    sweep, sampled = optional.sweep, optional.sampled
    inputs: dict[str, Any] = {
        "config": config.model_dump(exclude={"kernel_rows", "sign_kernel"}),
        "data": data.digest,
        "estimates": estimates.digest,
        "model": model.digest,
        "runs": [run_inputs(group.settings, run) for group in groups for run in group.runs],
        **({} if sweep is None else {"sweep": sweep.digest}),
        **({} if sampled is None else {"sampled": sampled.digest}),
    }
    if expansion is not None:
        digests = [expansion.model.digest, expansion.gradients.digest]
        inputs |= {"kernel_rows": config.kernel_rows, "expansion": digests}
        if config.sign_kernel:
            inputs["sign_kernel"] = True
    if fairness is not None:
        inputs["fairness"] = fairness.model_dump()

    def work(output: Path) -> dict[str, Any]:
        prepared = PreparedData(fetch(data))
        selection = Selection.read(fetch(estimates, [Selection.FILE]))
        _check_trained_on(training_result(model)["tasks"], selection, model)
        answered = read_answered_runs(groups, root_uri)
        evaluation = _evaluate(config, prepared, selection, answered)
        evaluation.write(output)
        kernel = None
        if expansion is not None:
            alone = read_validation(groups, [], root_uri) if config.sign_kernel else []
            kernel = _kernel_report(config, prepared, model, expansion, evaluation.start, alone, tracker)
            kernel.write(output)
        treated = None
        if fairness is not None:
            training = limited_training(training_result(model))
            treated = group_report(fairness, config, prepared, selection, answered, training)
            treated.write(output)
        tried = None if sweep is None else ScopeSweep.read(fetch(sweep))
        content = _report_content(prepared, selection, evaluation, kernel, model, root_uri)
        schedule = None if sampled is None else SamplingSchedule.read(fetch(sampled, [SamplingSchedule.FILE]))
        content = content.model_copy(update={"sweep": tried, "schedule": schedule, "groups": treated})
        with atomic_file(output / REPORT) as path:
            path.write_text(render_report(content), encoding="utf-8")
        found = _metadata(evaluation) | ({} if kernel is None else kernel.metrics)
        return found | ({} if treated is None else treated.metrics)

    result = produce(root_uri, STEP, inputs, work)
    tracker.artifact(result, REPORT)
    tracker.artifact(result, Evaluation.FILE)
    if expansion is not None:
        tracker.artifact(result, KernelReport.FILE)
    if fairness is not None:
        tracker.artifact(result, GroupReport.FILE)
    tracker.artifact(estimates, Selection.FILE)
    return result


def _evaluate(
    config: EvaluationConfig, data: PreparedData, selection: Selection, answered: AnsweredRuns
) -> Evaluation:
    rows = data.split(data.target, "test")
    runs = {name: answered.on(subset) for name, subset in selection.comparisons.items()}
    scores = {name: [scores_of(run.answers, rows) for run in same] for name, same in runs.items()}
    sampled = {name: bootstrap_metrics(each, config.bootstrap, config.seed) for name, each in scores.items()}
    models = {
        name: _evaluated_model(name, selection, same, scores[name], sampled[name])
        for name, same in runs.items()
    }
    differences = [
        difference(name, models[CHOSEN].test, other.test, sampled[CHOSEN], sampled[name])
        for name, other in models.items()
        if name != CHOSEN
    ]
    first, chosen = runs[CHOSEN][0], scores[CHOSEN][0]
    labels, base = data.task(data.target).labels, answered.untrained
    return Evaluation(
        target=data.target,
        labels=labels,
        val_rows=data.task(data.target).rows["val"],
        test_rows=len(rows),
        start=answered.settings.start,
        optimizer_steps=first.record.optimizer_steps,
        batch_size=answered.settings.recipe["batch_size"],
        seeds=len(runs[CHOSEN]),
        models=list(models.values()),
        base_model=None if base is None else _base_metrics(scores_of(base.answers, rows), config),
        confusion=(
            Confusion(labels=labels, matrix=chosen.confusion()) if isinstance(chosen, LabelScores) else None
        ),
        samples=(
            draw_samples(rows, first.answers.written or [], chosen.right(), config.seed)
            if isinstance(chosen, RowScores)
            else []
        ),
        spearman=rank_correlation(list(models.values())),
        verdict=judge(differences, len(runs[CHOSEN]), objections(models[CHOSEN], differences, len(rows))),
        cautions=cautions(list(models.values()), data.task(data.target).rows["val"]),
        difference_to=differences,
        all_layers=_all_layers(config, selection, answered, rows, models[CHOSEN], sampled[CHOSEN]),
    )


def _all_layers(
    config: EvaluationConfig,
    selection: Selection,
    answered: AnsweredRuns,
    rows: Any,
    chosen: EvaluatedModel,
    chosen_sampled: Metrics,
) -> AllLayers | None:
    """Return what all layers give on the chosen subset, where the chosen model trains a part of them."""
    runs = answered.with_all_layers
    if not runs:
        return None
    scores = [scores_of(run.answers, rows) for run in runs]
    sampled = bootstrap_metrics(scores, config.bootstrap, config.seed)
    model = _evaluated_model(CHOSEN, selection, runs, scores, sampled)
    return AllLayers(
        scope=answered.settings.recipe["scope"],
        model=model.model_copy(update={"name": ALL_LAYERS}),
        difference=difference(ALL_LAYERS, chosen.test, model.test, chosen_sampled, sampled),
    )


def _check_trained_on(tasks: list[str], selection: Selection, model: StepOutput) -> None:
    expected = [selection.target, *selection.selected]
    if set(tasks) != set(expected):
        raise InputError(
            f"The model at {model.uri} was fine-tuned on {', '.join(tasks)}: expected the target and the "
            f"selection, {', '.join(expected)}."
        )


def _evaluated_model(
    name: str, selection: Selection, runs: list[AnsweredRun], scores: list[Scores], sampled: Metrics
) -> EvaluatedModel:
    seed_runs = [
        SeedRun(seed=run.record.seed, val_loss=run.record.val_loss, test=metrics(each))
        for run, each in zip(runs, scores, strict=True)
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


def _kernel_report(
    config: EvaluationConfig,
    data: PreparedData,
    model: StepOutput,
    expansion: Expansion,
    start: Start,
    target_only: Sequence[ValidationAnswers],
    tracker: StepTracker,
) -> KernelReport:
    from gradsift.components.evaluation.kernel.measurement import measure

    def report(done: int, total: int) -> None:
        tracker.progress(done, total, "rows")

    return measure(config, data, model, expansion, start, target_only, report)


def _report_content(
    data: PreparedData,
    selection: Selection,
    evaluation: Evaluation,
    kernel: KernelReport | None,
    model: StepOutput,
    root_uri: str,
) -> ReportContent:
    settings, seconds = run_settings(root_uri, run_id())
    packages = ("gradsift", "kfp", "torch", "transformers", "deepspeed", "numpy", "mlflow")
    return ReportContent(
        selection=selection,
        evaluation=evaluation,
        kernel=kernel,
        statistics=json.loads((data.folder / STATISTICS).read_text()),
        settings=settings,
        versions={name: version(name) for name in packages},
        seconds=seconds,
        clusters=_clusters(data),
        run=RunFacts(
            run_id=run_id(),
            created=datetime.now(UTC),
            base_model=model.metadata["base_model"],
            suite=data.suite,
            max_length=data.max_length,
        ),
    )


def _clusters(data: PreparedData) -> SourceClusters | None:
    """Return what sources were cut into, or None where they were not cut."""
    is_cut = (data.folder / SourceClusters.FILE).exists()
    return SourceClusters.read(data.folder) if is_cut else None


def _metadata(evaluation: Evaluation) -> dict[str, Any]:
    """Return the metrics of the run; Kubeflow's page that compares runs cuts names after some 25 characters."""
    values: dict[str, Any] = {
        "target": evaluation.target,
        "helped": evaluation.verdict.helped,
        "verdict": evaluation.verdict.text,
    }
    for name, found in evaluation.chosen.test.items():
        values[f"test_{name}"] = found.mean
    metric = evaluation.primary
    differences = list(evaluation.difference_to)
    if evaluation.all_layers is not None:
        differences.append(evaluation.all_layers.difference)
    for each in differences:
        values[f"gain_over_{each.name}"] = each.test[metric].mean
        values[f"loss_minus_{each.name}"] = each.test[LOSS].mean
    if evaluation.spearman is not None:
        values["spearman"] = evaluation.spearman
    return values
