"""What preflight gives out: the settings of each step, and what the pods of the steps are given."""

from importlib.metadata import version
from typing import Any

from gradsift.components.shared.artifacts.step_output import digest_of
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.parameters.training import TrainingRecipe

WITHOUT_EFFECT = ("run", "data", "parallel_runs", "promotion", "resources", "platform")
"""Groups that do not decide what comes out of the same data; the prepared data have a digest of their own."""


def step_settings(settings: PipelineSettings) -> dict[str, dict[str, Any]]:
    """Return the settings of each step, JSON values under the step's name.

    What has its default is left out, as each copy counts for the size of the workflow.
    """
    common = {"output_uri": settings.run.output_uri}
    model = settings.model.changes()
    tuned = TrainingRecipe.of(settings.training, settings.fine_tuning)
    meta = TrainingRecipe.of(settings.training, settings.meta_training)
    fine_tuning, meta_training = ({"model": model, "recipe": recipe.changes()} for recipe in (tuned, meta))
    start = {"start": settings.fine_tuning_start.changes()}
    hardware, groups = _training_hardware(settings), {"groups": settings.parallel_runs.changes()}
    weights = settings.fine_tuning_start.start
    estimation = SubsetEstimationConfig.of(settings.estimation, tuned, meta, weights)
    asked = {name: model[name] for name in ("base_model", "max_length", "prompt_form") if name in model}
    return {
        "data_preparation": {**common, "config": settings.data.changes(), "model": asked},
        "meta_training": {**common, **meta_training, **hardware},
        "gradient_extraction": {
            **common,
            "config": settings.extraction.changes(),
            "gpus": settings.resources.gpus,
        },
        "calibration": {**common, "config": settings.calibration.changes(), **fine_tuning, **start, **groups},
        "fine_tuning_runs": {**common, **hardware},
        "subset_estimation": {**common, "config": estimation.changes()},
        "fine_tuning": {
            **common,
            **fine_tuning,
            **start,
            **hardware,
            "comparisons": settings.comparison.changes(),
            **groups,
        },
        "evaluation": {**common, "config": settings.evaluation.changes()},
        "promotion": {
            **common,
            "config": settings.promotion.changes(),
            "digest": settings_digest(settings),
        },
    }


def pods(settings: PipelineSettings) -> dict[str, str]:
    """Return the resources of the steps' pods as texts: Kubeflow's driver reads a number as nothing.

    Steps that train on several nodes only launch them from their own pods, and need no GPUs there.
    """
    resources = settings.resources
    launching = settings.training.nodes > 1
    return {
        "gpus": str(resources.gpus),
        "training_cpu": resources.small_cpu if launching else resources.cpu,
        "training_memory": resources.small_memory if launching else resources.memory,
        "training_gpus": "0" if launching else str(resources.gpus),
        "small_cpu": resources.small_cpu,
        "small_memory": resources.small_memory,
    }


def settings_digest(settings: PipelineSettings) -> str:
    """Return a digest of gradsift's version and of the settings that decide what comes out of the same data."""
    deciding = {
        name: group.model_dump() for name, group in vars(settings).items() if name not in WITHOUT_EFFECT
    }
    for name in ("processes", "pods"):
        del deciding["extraction"][name]
    return digest_of([version("gradsift"), deciding])


def _training_hardware(settings: PipelineSettings) -> dict[str, Any]:
    """Return the GPUs that a training step's own pod has, or what each node gets that it launches."""
    resources = settings.resources
    if settings.training.nodes == 1:
        return {"gpus": resources.gpus}
    node = {"cpu": resources.cpu, "memory": resources.memory, resources.gpu_type: resources.gpus}
    return {"node_resources": node}
