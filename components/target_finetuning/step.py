"""The step: fine-tune the base model once, on the selected tasks and the target."""

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.trained_model import produce_trained_model
from gradsift.components.shared.training.training import Launcher

STEP = "target_finetuning"


def fine_tune_target(
    model: ModelConfig,
    recipe: TrainingRecipe,
    data: StepOutput,
    selection: StepOutput,
    root_uri: str,
    tracker: StepTracker,
    launch: Launcher = launch_processes,
) -> StepOutput:
    """Return the base model fine-tuned on the selection and the target (see `produce_trained_model`)."""
    chosen = Selection.read(fetch(selection, [Selection.FILE]))
    tasks = [chosen.target, *chosen.selected]
    output = produce_trained_model(STEP, data, tasks, model, recipe, root_uri, tracker, launch)
    tracker.model(output)
    return output
