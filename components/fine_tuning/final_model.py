"""The final model: the fine-tuning run on the selected tasks whose weights are kept."""

from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import GroupSettings, PlannedRun, RunGroup
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.training import Launcher

STEP = "target_finetuning"
"""Name that the step is logged by."""


def fine_tune_target(
    model: ModelConfig,
    recipe: TrainingRecipe,
    data: StepOutput,
    selection: StepOutput,
    root_uri: str,
    tracker: StepTracker,
    launch: Launcher = launch_processes,
    meta: StepOutput | None = None,
) -> StepOutput:
    """Return the base model, or theta*, fine-tuned on the selection and the target, trained now or found.

    Args:
        model: the pretrained model.
        recipe: how it is trained.
        data: the prepared data.
        selection: the estimation step's output.
        root_uri: the run root, a local path or an `s3://` address.
        tracker: gets losses, progress, the data sets used and the model.
        launch: where training runs (see `train`).
        meta: theta*, where training starts from it.

    Raises:
        InputError: the base model cannot be used.
        TrainingError: training ended without a result.
    """
    prepared = PreparedData(fetch(data))
    chosen = Selection.read(fetch(selection, [Selection.FILE]))
    base = find_base_model(model.base_model)
    weights = [base.digest, base.tokenizer_digest]
    settings = GroupSettings.of(data, prepared, weights, model, recipe, meta)
    run = PlannedRun.of(prepared, chosen.selected, recipe)
    for task in [prepared.target, *run.subset]:
        tracker.dataset(task, data.uri, data.digest, "training", prepared.task(task).rows["train"])
    group = RunGroup(purpose="selected", number=0, settings=settings, runs=[run], keep_models=True)
    [output] = train_runs(group, data, root_uri, tracker, launch=launch)
    tracker.model(output)
    return output
