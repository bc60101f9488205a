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
    part: str,
    dimension: int,
    blocks: int,
    probes: int,
    projection_width: int,
    parameters: str,
    tokens_per_batch: int,
    shard_rows: int,
    dtype: str,
    hidden_states: bool,
    base_weights: bool,
    precision: str,
    processes: int,
    pods: int,
    seed: int,
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
        part: one of the texts that `plan_extraction` returns.
        dimension: d, numbers a projected gradient; a multiple of `blocks`.
        blocks: independent projection blocks; their spread is the projection's standard error.
        probes: R, gradients under labels sampled from the model, an example.
        projection_width: m, width of the folded gradient before the dense product; at least `dimension`.
        parameters: whose gradient it is: `shared` takes the trained parameters that all tasks share, `trained` a
            trained head's too.
        tokens_per_batch: padded tokens computed at a time; decides memory and speed, not the result. Halved when
            a GPU's memory does not suffice.
        shard_rows: rows of a shard, 4096 to 16384 for large data; a killed process repeats at most one.
        dtype: type of the stored gradients, `float16` (with a scale) or `float32`.
        hidden_states: store each row's mean-pooled last hidden state too, for comparing rows by similarity.
        base_weights: write a second store at the pretrained weights, for calibration runs to choose from; twice
            the time.
        precision: `auto` is bf16 where the hardware multiplies it fast, else float32.
        processes: number of processes of a pod that compute shards; 0 is one a GPU, and one on a machine without.
        pods: number of pods that share the work, each with the resources of a training step.
        seed: decides the projection and the sampled labels.
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
    task = extract_part(
        data=data,
        model=model,
        output_uri=output_uri,
        part=part,
        dimension=dimension,
        blocks=blocks,
        probes=probes,
        projection_width=projection_width,
        parameters=parameters,
        tokens_per_batch=tokens_per_batch,
        shard_rows=shard_rows,
        dtype=dtype,
        hidden_states=hidden_states,
        base_weights=base_weights,
        precision=precision,
        processes=processes,
        pods=pods,
        seed=seed,
    )
    let_train(task, cpu, memory, gpus, gpu_type, node_selector, tolerations)
    give_credentials(task, s3_secret, mlflow_secret, hub_secret, settings)
