"""The step: train the shared model once on the train rows of every task, the target's included."""

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.sampling_schedule import EarlierSchedule, SamplingSchedule
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
    sampling: MetaSampling | None = None,
    fairness: FairnessConfig | None = None,
    earlier: EarlierSchedule | None = None,
) -> StepOutput:
    """Return the meta-initialisation theta*, trained on all tasks of `data` (see `produce_trained_model`)."""
    tasks = [task.name for task in PreparedData(fetch(data)).tasks]
    output = produce_trained_model(
        STEP, data, tasks, model, recipe, root_uri, tracker, launch, sampling, fairness, earlier
    )
    if sampling is not None:
        schedule = SamplingSchedule.read(fetch(output, [SamplingSchedule.FILE]))
        for number, each in enumerate(schedule.rounds):
            tracker.metrics({f"share/{task}": share for task, share in each.shares.items()}, step=number)
        tracker.artifact(output, SamplingSchedule.FILE)
    return output
