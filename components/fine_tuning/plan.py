"""Which runs the chosen subset is compared by, before any of them has run."""

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.parameters.evaluation import ComparisonConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    GroupSettings,
    Layers,
    RunGroup,
    base_digests,
)
from gradsift.components.shared.records.planning import COMPARISONS, comparison_runs, group_runs
from gradsift.components.shared.records.scope_sweep import ScopeSweep
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.training.trained_model import training_result


def plan_comparisons(
    config: ComparisonConfig,
    data: StepOutput,
    estimates: StepOutput,
    model: StepOutput,
    root_uri: str,
    parallel_runs: int = 1,
    meta: StepOutput | None = None,
    sweep: StepOutput | None = None,
    fairness: FairnessConfig | None = None,
) -> list[RunGroup]:
    """Return the runs on every subset of the selection's comparisons, and the model that they start from.

    Every run takes the chosen model's recipe and number of optimizer steps; seeds count up from its seed, so that
    the chosen model is the first run of `selected`. Where that trains a part of the layers, there are also runs on
    its subset with all of them, at the best rate that the sweep found for these if it tried them. Where runs keep
    to a limit, there are also runs on its subset without one. A base model whose head has to be trained first is
    left out.

    Args:
        config: how many seeds.
        data: the prepared data.
        estimates: the selection, which names the subsets to compare.
        model: the final model.
        root_uri: the run root, a local path or an `s3://` address.
        parallel_runs: the largest number of groups.
        meta: theta*, where runs start from it.
        sweep: which layers were tried, if several were.
        fairness: the limit that runs keep to; None for none.
    """
    prepared = PreparedData(fetch(data))
    comparisons = Selection.read(fetch(estimates, [Selection.FILE])).comparisons
    trained = training_result(model)
    recipe = TrainingRecipe(**trained["recipe"]).model_copy(update={"steps": trained["optimizer_steps"]})
    settings = GroupSettings.of(
        data,
        prepared,
        base_digests(model),
        ModelConfig(**trained["model"]),
        recipe,
        meta,
        fairness=fairness,
    )
    untrained = meta is not None or model.metadata["answers_untrained"]
    all_layers = None if recipe.scope == "all" else _all_layers(recipe, sweep)
    subsets = list(comparisons.values())
    runs = comparison_runs(
        prepared, subsets, recipe, config, untrained, all_layers, limited=fairness is not None
    )
    return group_runs(COMPARISONS, settings, runs, root_uri, parallel_runs)


def _all_layers(recipe: TrainingRecipe, sweep: StepOutput | None) -> Layers:
    """Return all layers, at their best rate of the sweep where it tried them, else at the recipe's."""
    rate = recipe.learning_rate
    if sweep is not None:
        reference = ScopeSweep.read(fetch(sweep)).reference
        rate = reference.learning_rate if reference.scope == "all" else rate
    return Layers(scope="all", learning_rate=rate)
