"""The step: train the shared model once on the train rows of every task, the target's included."""

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.trained_model import produce_trained_model
from gradsift.components.shared.training.training import Launcher

STEP = "meta_training"


def meta_train(
    model: ModelConfig,
    recipe: TrainingRecipe,
    data: StepOutput,
    root_uri: str,
    tracker: StepTracker,
    launch: Launcher = launch_processes,
) -> StepOutput:
    """Return the meta-initialisation theta*, trained on all tasks of `data` (see `produce_trained_model`)."""
    tasks = [task.name for task in PreparedData(fetch(data)).tasks]
    return produce_trained_model(STEP, data, tasks, model, recipe, root_uri, tracker, launch)
