"""The tasks that run in loops, each a pipeline of its own: KFP gives a task in a loop no resources by parameter."""

from kfp import dsl

from gradsift.components.calibration.component import calibrate
from gradsift.components.gradient_extraction.component import extract_part
from gradsift.pipelines.platform import mount_environment, set_training_resources


@dsl.pipeline(name="calibrate-group")
def calibrate_group(
    data: dsl.Input[dsl.Dataset],
    step_settings: dict,
    planned: str,
    cpu: str,
    memory: str,
    gpus: str,
    gpu_type: str,
    node_selector: dict,
    tolerations: list,
    s3_secret: str,
    mlflow_secret: str,
    hub_secret: str,
    settings: str,
) -> None:
    """Some of the calibration runs.

    Args:
        data: pointer to the prepared data.
        step_settings: what preflight resolved for the step.
        planned: one of the texts that `plan_calibration` returns.
        cpu: see `set_training_resources`, as the next ones up to `tolerations`.
        memory: memory.
        gpus: GPUs.
        gpu_type: resource name of a GPU.
        node_selector: labels of the node.
        tolerations: taints of the node.
        s3_secret: see `mount_environment`, as the next ones.
        mlflow_secret: Secret for MLflow.
        hub_secret: Secret for the Hugging Face hub.
        settings: ConfigMap.
    """
    task = calibrate(data=data, settings=step_settings, planned=planned)
    set_training_resources(task, cpu, memory, gpus, gpu_type, node_selector, tolerations)
    mount_environment(task, s3_secret, mlflow_secret, hub_secret, settings)


@dsl.pipeline(name="extract-group")
def extract_group(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    step_settings: dict,
    part: str,
    cpu: str,
    memory: str,
    gpus: str,
    gpu_type: str,
    node_selector: dict,
    tolerations: list,
    s3_secret: str,
    mlflow_secret: str,
    hub_secret: str,
    settings: str,
) -> None:
    """One part of the extraction.

    Args:
        data: pointer to the prepared data.
        model: pointer to the meta-trained model.
        step_settings: what preflight resolved for the step.
        part: number of the part.
        cpu: see `set_training_resources`, as the next ones up to `tolerations`.
        memory: memory.
        gpus: GPUs.
        gpu_type: resource name of a GPU.
        node_selector: labels of the node.
        tolerations: taints of the node.
        s3_secret: see `mount_environment`, as the next ones.
        mlflow_secret: Secret for MLflow.
        hub_secret: Secret for the Hugging Face hub.
        settings: ConfigMap.
    """
    task = extract_part(data=data, model=model, settings=step_settings, part=part)
    set_training_resources(task, cpu, memory, gpus, gpu_type, node_selector, tolerations)
    mount_environment(task, s3_secret, mlflow_secret, hub_secret, settings)
