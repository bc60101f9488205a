"""The KFP interface of the preflight checks."""

from typing import NamedTuple

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE, component


@component(TRAIN_IMAGE)
def preflight(
    checks: dsl.Output[dsl.Markdown],
    base_model: str,
    calibrate_runs: int,
    cpu: str,
    evaluate_seeds: int,
    fine_tune_start: str,
    fine_tune_steps: int,
    gpu_type: str,
    gpus: int,
    memory: str,
    model_max_length: int,
    output_uri: str,
    platform_node_selector: dict,
    platform_secret: str,
    platform_settings: str,
    platform_tolerations: list,
    promote_model_name: str,
    sources: list,
    suite: str,
    target: str,
    train_nodes: int,
    settings: dict,
) -> NamedTuple(  # type: ignore[valid-type]  # KFP reads the outputs from it
    "Resolved",
    data_preparation=dict,
    meta_training=dict,
    gradient_extraction=dict,
    subset_estimation=dict,
    fine_tuning=dict,
    evaluation=dict,
    promotion=dict,
    training_cpu=str,
    training_memory=str,
    training_gpus=str,
    extraction_cpu=str,
    extraction_memory=str,
    extraction_gpus=str,
    conclusion_cpu=str,
    conclusion_memory=str,
    conclusion_gpus=str,
    small_cpu=str,
    small_memory=str,
):
    """Check parameters, credentials, run root, suite, base model and MLflow before GPUs are spent.

    The other arguments are the fields of the form.

    Args:
        checks: what was found.

    Returns:
        Each step's settings, and the resources of the pods as texts.
    """
    form = {name: value for name, value in locals().items() if name != "checks"}

    from pathlib import Path

    from gradsift.components.preflight import step
    from gradsift.components.preflight.step_settings import pods, step_settings

    resolved = step.preflight(form, Path(checks.path))
    return *step_settings(resolved).values(), *pods(resolved).values()
