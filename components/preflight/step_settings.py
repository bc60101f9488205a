"""What preflight gives out: the settings of each step, and what the pods of the steps are given."""

from importlib.metadata import version
from typing import Any

from gradsift.components.shared.artifacts.step_output import digest_of
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.parameters.training import TrainingRecipe

WITHOUT_EFFECT = ("run", "data", "parallel_runs", "promotion", "resources", "platform")
"""Groups that do not decide what comes out of the same data; the prepared data have a digest of their own."""

LIMITS = ("required_tasks", "excluded_tasks", "max_tasks", "max_rows")
"""Settings of the estimation that a choice keeps to."""


def step_settings(settings: PipelineSettings) -> dict[str, dict[str, Any]]:
    """Return the settings of each step, JSON values under the step's name.

    What has its default is left out, as each copy counts for the size of the workflow.
    """
    common = {"output_uri": settings.run.output_uri}
    model = settings.model.changes()
    run_recipe = settings.run_recipe
    meta_recipe = TrainingRecipe.of(settings.training, settings.meta_training)
    fine_tuning = {"model": model, "recipe": run_recipe.changes()}
    meta_training = {"model": model, "recipe": meta_recipe.changes()}
    if settings.sampling is not None:
        meta_training["sampling"] = settings.sampling.changes()
    hardware = _hardware(settings, settings.training.nodes)
    estimation = SubsetEstimationConfig.of(
        settings.estimation, run_recipe, meta_recipe, settings.fine_tuning_start.start
    )
    extraction = GradientExtractionConfig.of(settings.extraction, settings.fine_tuning_layers.scopes)
    fairness = {"fairness": settings.fairness.changes()} if settings.fairness.group else {}
    limits = {name: value for name, value in settings.estimation.changes().items() if name in LIMITS}
    asked = {
        name: model[name] for name in ("base_model", "head", "max_length", "prompt_form") if name in model
    }
    return {
        "data_preparation": {
            **common,
            "config": settings.data.changes(),
            "model": asked,
            "promotion": settings.promotion.changes(),
            "digest": settings_digest(settings),
            **settings.meta_schedule_start.changes(),
            **fairness,
        },
        "meta_training": {**common, **meta_training, **fairness, **hardware},
        "gradient_extraction": {
            **common,
            "config": extraction.changes(),
            **_hardware(settings, settings.extraction.pods),
        },
        "subset_estimation": {
            **common,
            "config": estimation.changes(),
            "model": model,
            "groups": settings.parallel_runs.changes(),
            "calibration": settings.calibration.changes(),
            "confirmation": settings.confirmation.changes(),
            **fairness,
        },
        "fine_tuning": {
            **common,
            **fine_tuning,
            "start": settings.fine_tuning_start.changes(),
            "layers": settings.fine_tuning_layers.changes(),
            **fairness,
            **hardware,
            "groups": settings.parallel_runs.changes(),
            "limits": limits,
            "comparisons": settings.comparison.changes(),
        },
        "evaluation": {**common, "config": settings.evaluation.changes(), **fairness},
        "promotion": {
            **common,
            "config": settings.promotion.changes(),
            "digest": settings_digest(settings),
        },
    }


def pods(settings: PipelineSettings) -> dict[str, str]:
    """Return the resources of the steps' pods as texts: Kubeflow's driver reads a number as nothing.

    Steps that work on several nodes only launch them from their own pods, and need no GPUs there. Nor does the
    conclusion of a run that registers no model.
    """
    resources = settings.resources
    small = {"cpu": resources.small_cpu, "memory": resources.small_memory, "gpus": "0"}
    large = {"cpu": resources.cpu, "memory": resources.memory, "gpus": str(resources.gpus)}
    kinds = {
        "training": large if settings.training.nodes == 1 else small,
        "extraction": large if settings.extraction.pods == 1 else small,
        "conclusion": large if settings.promotion.model_name else small,
    }
    found = {f"{kind}_{name}": text for kind, pod in kinds.items() for name, text in pod.items()}
    return {**found, "small_cpu": resources.small_cpu, "small_memory": resources.small_memory}


def settings_digest(settings: PipelineSettings) -> str:
    """Return a digest of gradsift's version and of the settings that decide what comes out of the same data."""
    groups = {
        name: group.model_dump() for name, group in vars(settings).items() if name not in WITHOUT_EFFECT
    }
    deciding = {name: values for name, values in groups.items() if values}
    for name in ("processes", "pods"):
        del deciding["extraction"][name]
    return digest_of([version("gradsift"), deciding])


def _hardware(settings: PipelineSettings, nodes: int) -> dict[str, Any]:
    """Return the GPUs that a step's own pod has, or what each node gets that it launches."""
    resources = settings.resources
    if nodes == 1:
        return {"gpus": resources.gpus}
    node = {"cpu": resources.cpu, "memory": resources.memory, resources.gpu_type: resources.gpus}
    return {"node_resources": node}
