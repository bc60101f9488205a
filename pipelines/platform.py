"""What a task's pod is given on Kubernetes: credentials, settings, resources, a place to run, retries, time limits.

KFP's local runner ignores all of it but retries, so the same compiled pipeline runs on a laptop.
"""

import os
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_channel import PipelineChannel

S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
MLFLOW_KEYS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
HUB_KEYS = ("HF_TOKEN",)
SETTINGS_KEYS = (
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "AWS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "GRADSIFT_TRAINING_RUNTIME",
    "HOME",
    "TRITON_CACHE_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
)
"""No variables of the tasks themselves, as the local runner would set them and a laptop's `HOME` is the user's."""

RETRIES = 2
SMALL_HOURS, LARGE_HOURS = 12, 7 * 24
"""After so long a pod is stopped, so that one that hangs does not hold its GPUs for ever."""

MODEL_CACHE = os.environ.get("GRADSIFT_MODEL_CACHE", "")
QUEUE = os.environ.get("GRADSIFT_QUEUE", "")
"""KFP takes no parameters for a volume that may be missing or for a pod's label: these are fixed at compilation."""
MODELS = "/models"


def give_credentials(
    task: dsl.PipelineTask, s3_secret: Any, mlflow_secret: Any, hub_secret: Any, settings: Any
) -> None:
    """Give a task addresses and credentials as environment variables, and the run's id.

    What is not there is left out: a cluster may give S3 credentials by the pod's identity, or have no MLflow.

    Args:
        task: the task.
        s3_secret: name of the Secret for S3, a text or a pipeline parameter, as all names here.
        mlflow_secret: name of the Secret for MLflow.
        hub_secret: name of the Secret for the Hugging Face hub.
        settings: name of the ConfigMap with addresses and folders for caches.
    """
    secrets = [(s3_secret, S3_KEYS), (mlflow_secret, MLFLOW_KEYS), (hub_secret, HUB_KEYS)]
    for secret, keys in secrets:
        kubernetes.use_secret_as_env(task, secret, {key: key for key in keys}, optional=True)
    kubernetes.use_config_map_as_env(task, settings, {key: key for key in SETTINGS_KEYS}, optional=True)
    kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
    kubernetes.empty_dir_mount(task, "tmp", "/tmp")
    # A step finds what it has finished by digests of its inputs and code, which KFP's cache knows nothing of.
    task.set_caching_options(False)


def let_compute(task: dsl.PipelineTask, cpu: Any, memory: Any, again: bool = True) -> None:
    """Give a task what a step without a model needs, and try it again if it fails, unless told otherwise."""
    task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(memory)
    _let_know(task, cpu, memory)
    kubernetes.set_timeout(task, SMALL_HOURS * 3600)
    if again:
        _let_retry(task)


def let_train(
    task: dsl.PipelineTask,
    cpu: Any,
    memory: Any,
    gpus: Any,
    gpu_type: Any,
    node_selector: Any,
    tolerations: Any,
) -> None:
    """Give a task what training and gradient extraction need.

    Shared memory has no limit of its own: that would be fixed at compilation, and the number of GPUs is not. So it
    may take what the memory limit allows.

    Args:
        task: the task.
        cpu: CPU cores requested.
        memory: memory requested and allowed, shared memory included.
        gpus: number of GPUs.
        gpu_type: resource name of a GPU.
        node_selector: labels that the node must have, a pipeline parameter.
        tolerations: taints that the node may have, a pipeline parameter with a list.
    """
    task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(memory)
    task.set_accelerator_type(gpu_type).set_accelerator_limit(gpus)
    _let_know(task, cpu, memory, gpus, gpu_type)
    kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory")
    kubernetes.add_node_selector_json(task, node_selector)
    kubernetes.add_toleration_json(task, tolerations)
    kubernetes.set_timeout(task, LARGE_HOURS * 3600)
    if QUEUE:
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", QUEUE)
    let_load_models(task)
    _let_retry(task)


def let_load_models(task: dsl.PipelineTask) -> None:
    """Mount the volume of downloaded models, where the pipeline is compiled for one."""
    if MODEL_CACHE:
        kubernetes.mount_pvc(task, pvc_name=MODEL_CACHE, mount_path=MODELS)
        task.set_env_variable("HF_HOME", MODELS)


def _let_know(task: dsl.PipelineTask, *resources: Any) -> None:
    """Have the conditions around a task hand down its resources: KFP's compiler does so for arguments alone."""
    channels = [each for each in resources if isinstance(each, PipelineChannel)]
    task.register_pipeline_channels(channels)


def _let_retry(task: dsl.PipelineTask) -> None:
    task.set_retry(num_retries=RETRIES, backoff_duration="30s", backoff_factor=2.0)
