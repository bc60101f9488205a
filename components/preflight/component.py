"""The KFP interface of the preflight checks."""

from typing import NamedTuple

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def preflight(
    report: dsl.Output[dsl.Markdown],
    base_model: str,
    calibrate_runs: int,
    cpu: str,
    evaluate_seeds: int,
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
    calibration=dict,
    fine_tuning_runs=dict,
    subset_estimation=dict,
    fine_tuning=dict,
    evaluation=dict,
    promotion=dict,
    gpus=str,
    training_cpu=str,
    training_memory=str,
    training_gpus=str,
    small_cpu=str,
    small_memory=str,
    extraction_parts=list,
):
    """Check parameters, credentials, run root, suite, base model and MLflow before GPUs are spent.

    The other arguments are the fields of the form.

    Args:
        report: what was found.

    Returns:
        Each step's settings, the resources of the pods as texts, and the numbers of the extraction's parts.
    """
    form = {name: value for name, value in locals().items() if name != "report"}

    from pathlib import Path

    from gradsift.components.preflight import step
    from gradsift.components.preflight.step_settings import pods, step_settings

    resolved = step.preflight(form, Path(report.path))
    parts = [str(number) for number in range(resolved.extraction.pods)]
    return *step_settings(resolved).values(), *pods(resolved).values(), parts
