"""Which runs calibrate the estimates, and which the chosen subset is compared by, before any of them has run."""

from gradsift.components.fine_tuning.groups import group_runs, runs_of
from gradsift.components.fine_tuning.subsets import none_all_and_random
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.shared.parameters.evaluation import ComparisonConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Start, TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import GroupSettings, PlannedRun, RunGroup
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.training.trained_model import base_digests, training_result

CALIBRATION = "calibration"
COMPARISONS = "comparisons"


def plan_calibration(
    config: CalibrationConfig,
    data: StepOutput,
    meta: StepOutput,
    model: ModelConfig,
    recipe: TrainingRecipe,
    root_uri: str,
    parallel_runs: int = 1,
    start: Start = "base",
) -> list[RunGroup]:
    """Return the runs on none and all of the auxiliary tasks and on K random subsets; none where K is 0.

    Args:
        config: how many.
        data: the prepared data.
        meta: the meta-trained model, which knows the digests of the pretrained weights it came from.
        model: the pretrained model.
        recipe: the recipe of the final model, whose seed is the first one's.
        root_uri: the run root, a local path or an `s3://` address.
        parallel_runs: the largest number of groups.
        start: what runs start from, the pretrained weights or `meta`.

    Raises:
        InputError: there are not that many subsets.
    """
    if config.runs == 0:
        return []
    prepared = PreparedData(fetch(data))
    settings = GroupSettings.of(
        data, prepared, base_digests(meta), model, recipe, meta if start == "meta" else None
    )
    subsets = none_all_and_random(prepared.auxiliary_tasks, config.runs, config.seed)
    runs = runs_of(prepared, subsets, recipe, config.seeds)
    return group_runs(CALIBRATION, settings, runs, root_uri, parallel_runs)


def plan_comparisons(
    config: ComparisonConfig,
    data: StepOutput,
    estimates: StepOutput,
    model: StepOutput,
    root_uri: str,
    parallel_runs: int = 1,
    meta: StepOutput | None = None,
) -> list[RunGroup]:
    """Return the runs on every subset of the selection's comparisons, and the model that they start from.

    Every run takes the chosen model's recipe and number of optimizer steps; seeds count up from its seed, so that
    the chosen model is the first run of `selected`. A base model whose head has to be trained first is left out.

    Args:
        config: how many seeds.
        data: the prepared data.
        estimates: the estimation step's output, which names the subsets to compare.
        model: the final model.
        root_uri: the run root, a local path or an `s3://` address.
        parallel_runs: the largest number of groups.
        meta: theta*, where runs start from it.
    """
    prepared = PreparedData(fetch(data))
    comparisons = Selection.read(fetch(estimates, [Selection.FILE])).comparisons
    trained = training_result(model)
    recipe = TrainingRecipe(**trained["recipe"]).model_copy(update={"steps": trained["optimizer_steps"]})
    settings = GroupSettings.of(
        data, prepared, base_digests(model), ModelConfig(**trained["model"]), recipe, meta
    )
    seeds = config.seeds_for(len({frozenset(subset) for subset in comparisons.values()}))
    runs = runs_of(prepared, list(comparisons.values()), recipe, seeds)
    if meta is not None or model.metadata["answers_untrained"]:
        runs.append(PlannedRun(subset=[], seed=0, steps=0))
    return group_runs(COMPARISONS, settings, runs, root_uri, parallel_runs)
