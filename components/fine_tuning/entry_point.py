"""Fine-tuning runs as tasks of the pipeline: the run's outputs and settings in, an artifact and plans out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.fine_tuning import choice, final_model, plan, scope_sweep, step
from gradsift.components.shared.artifacts.run_outputs import read_outputs, write_outputs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.kubeflow_trainer.launcher import launcher_on
from gradsift.components.shared.parameters.estimation import EstimationSettings
from gradsift.components.shared.parameters.evaluation import ComparisonConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import (
    FineTuningLayers,
    FineTuningStart,
    ParallelRunsSettings,
    TrainingRecipe,
)
from gradsift.components.shared.records.fine_tuning_runs import (
    CANDIDATES,
    GroupSettings,
    PlannedRun,
    RunGroup,
    base_digests,
)
from gradsift.components.shared.records.planning import COMPARISONS, FINALISTS, SCOPE_SWEEP, sweep_runs
from gradsift.components.shared.records.run_plans import read_group, write_groups
from gradsift.components.shared.records.scope_sweep import ScopeSweep
from gradsift.components.shared.records.selection_results import SECOND_ROUND, Selection
from gradsift.components.shared.tracking.step_run import begin_step, record_output, run_step
from gradsift.components.shared.training.training import Launcher


def train_runs(settings: Mapping[str, Any], planned: str) -> None:
    """Train a group of fine-tuning runs; those that are finished are not trained again."""
    group = read_group(planned, settings["output_uri"])
    data = StepOutput(group.settings.data_uri, group.settings.data, {})
    launcher = launcher_on(settings.get("node_resources", {}))
    _train(f"{group.purpose}-{group.number}", group, data, settings, launcher)


def fine_tune_target(
    fine_tuned_model: Any, inputs: str, settings: Mapping[str, Any]
) -> tuple[str, list[str]]:
    """Choose among the trained subsets, keep the model of the chosen one, and plan what it is compared by."""
    root, launcher = settings["output_uri"], launcher_on(settings.get("node_resources", {}))
    outputs = read_outputs(inputs, root)
    data, estimates = outputs["data"], outputs["selection"]
    config = ModelConfig(**settings["model"]).resolved(data.metadata["max_length"])
    recipe = TrainingRecipe(**settings["recipe"])
    meta = outputs["meta_model"] if FineTuningStart(**settings["start"]).start == "meta" else None
    prepared, base = PreparedData(fetch(data)), base_digests(outputs["meta_model"])
    fairness = FairnessConfig(**settings.get("fairness", {})).in_training
    group = GroupSettings.of(data, prepared, base, config, recipe, meta, fairness=fairness)
    outputs["selection"] = selection = _confirm(estimates, data, group, recipe, settings)
    chosen = Selection.read(fetch(selection, [Selection.FILE]))
    candidates = choice.finalist_runs(chosen, prepared, recipe)
    layers = FineTuningLayers(**settings["layers"])
    tried = sweep_runs(layers, recipe, PlannedRun.of(prepared, chosen.selected, recipe))
    if len(tried) > 1:
        outputs[SCOPE_SWEEP] = sweep = _sweep(tried, group, data, settings)
        candidates += tried
        best = ScopeSweep.read(fetch(sweep)).chosen.layers
        recipe = recipe.model_copy(update=best.model_dump())
    tuned = GroupSettings.of(data, prepared, base, config, recipe, meta, fairness=fairness)
    outputs["fine_tuned_model"] = model = run_step(
        final_model.STEP,
        settings,
        {**config.model_dump(), **recipe.model_dump()},
        lambda tracker: final_model.fine_tune_target(tuned, recipe, data, selection, root, tracker, launcher),
        fine_tuned_model,
    )
    choice.delete_candidates(group, candidates, root)
    comparisons = ComparisonConfig(**settings["comparisons"])
    with begin_step(f"{COMPARISONS}-plan", settings, comparisons.model_dump()) as tracker:
        parallel_runs = ParallelRunsSettings(**settings["groups"]).parallel_runs
        groups = plan.plan_comparisons(
            comparisons,
            data,
            selection,
            model,
            root,
            parallel_runs,
            meta,
            outputs.get(SCOPE_SWEEP),
            fairness,
        )
        tracker.metrics({"groups": len(groups)})
        return write_outputs(outputs, root), write_groups(groups, root)


def _confirm(
    estimates: StepOutput,
    data: StepOutput,
    group: GroupSettings,
    recipe: TrainingRecipe,
    settings: Mapping[str, Any],
) -> StepOutput:
    """Train the second round of runs, and return the selection that both rounds confirm."""
    root, limits = settings["output_uri"], EstimationSettings(**settings["limits"])
    launcher = launcher_on(settings.get("node_resources", {}))
    selection = Selection.read(fetch(estimates, [Selection.FILE]))
    if not selection.finalists:
        return estimates
    if runs := choice.finalist_runs(selection, PreparedData(fetch(data)), recipe, SECOND_ROUND):
        second = RunGroup(purpose=FINALISTS, number=0, settings=group, runs=runs, weights=CANDIDATES)
        _train(FINALISTS, second, data, settings, launcher)
    with begin_step(choice.STEP, settings, limits.model_dump()) as tracker:
        output = choice.confirm_selection(estimates, data, group, recipe, limits, root)
        record_output(output, tracker)
    return output


def _sweep(
    tried: list[PlannedRun], group: GroupSettings, data: StepOutput, settings: Mapping[str, Any]
) -> StepOutput:
    """Train the chosen subset with every scope at every rate, and return which of them is chosen."""
    root, launcher = settings["output_uri"], launcher_on(settings.get("node_resources", {}))
    runs = RunGroup(purpose=SCOPE_SWEEP, number=0, settings=group, runs=tried, weights=CANDIDATES)
    with begin_step(SCOPE_SWEEP, settings, {"runs": len(tried)}) as tracker:
        step.train_runs(runs, data, root, tracker, launch=launcher)
        output = scope_sweep.choose_layers(group, tried, root)
        tracker.artifact(output, ScopeSweep.FILE)
        record_output(output, tracker)
    return output


def _train(
    name: str, group: RunGroup, data: StepOutput, settings: Mapping[str, Any], launcher: Launcher
) -> None:
    with begin_step(name, settings, {"runs": len(group.runs)}) as tracker:
        records = step.train_runs(group, data, settings["output_uri"], tracker, launch=launcher)
        if all(record.reused for record in records):
            tracker.reused()
        tracker.metrics({"runs": len(records)})
