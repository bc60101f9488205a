"""The tasks that run in loops, each a pipeline of its own: KFP gives a task in a loop no resources by parameter."""

from kfp import dsl

from gradsift.components.calibration.component import calibrate
from gradsift.components.gradient_extraction.component import extract_part
from gradsift.pipelines.platform import give_credentials, let_train


@dsl.pipeline(name="calibrate-group")
def calibrate_group(
    data: dsl.Input[dsl.Dataset],
    output_uri: str,
    planned: str,
    node_resources: dict,
    cpu: str,
    memory: str,
    gpus: int,
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
        output_uri: run root, a local path or an s3:// address.
        planned: one of the texts that `plan_calibration` returns.
        node_resources: what each node gets where training runs on several.
        cpu: CPU cores requested.
        memory: memory requested.
        gpus: GPUs; 0 computes on the CPU.
        gpu_type: resource name of a GPU.
        node_selector: labels that its node must have.
        tolerations: taints that its node may have.
        s3_secret: name of the Secret for S3.
        mlflow_secret: name of the Secret for MLflow.
        hub_secret: name of the Secret for the Hugging Face hub.
        settings: name of the ConfigMap with addresses.
    """
    task = calibrate(data=data, output_uri=output_uri, planned=planned, node_resources=node_resources)
    let_train(task, cpu, memory, gpus, gpu_type, node_selector, tolerations)
    give_credentials(task, s3_secret, mlflow_secret, hub_secret, settings)


@dsl.pipeline(name="extract-group")
def extract_group(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    output_uri: str,
    planned: str,
    cpu: str,
    memory: str,
    gpus: int,
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
        output_uri: run root, a local path or an s3:// address.
        planned: one of the texts that `plan_extraction` returns.
        cpu: CPU cores requested.
        memory: memory requested.
        gpus: GPUs; 0 computes on the CPU.
        gpu_type: resource name of a GPU.
        node_selector: labels that its node must have.
        tolerations: taints that its node may have.
        s3_secret: name of the Secret for S3.
        mlflow_secret: name of the Secret for MLflow.
        hub_secret: name of the Secret for the Hugging Face hub.
        settings: name of the ConfigMap with addresses.
    """
    task = extract_part(data=data, model=model, output_uri=output_uri, planned=planned)
    let_train(task, cpu, memory, gpus, gpu_type, node_selector, tolerations)
    give_credentials(task, s3_secret, mlflow_secret, hub_secret, settings)
