"""What a task's pod is given on Kubernetes: credentials, settings, resources, a place to run, a time limit.

KFP's local runner ignores all of it, so the same compiled pipeline runs on a laptop.
"""

import os
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_channel import PipelineChannel

from gradsift.components.shared.process.pod_environment import MOUNTS

RETRIES = 2
"""Times that a pod which was lost is tried again. KFP 2.17's workflow controller retries on its own errors only
(`retryPolicy: OnError`): a step that fails is not repeated."""
SMALL_HOURS, LARGE_HOURS = 12, 7 * 24
"""After so long a pod is stopped, so that one that hangs does not hold its GPUs for ever."""

MODEL_CACHE = os.environ.get("GRADSIFT_MODEL_CACHE", "")
QUEUE = os.environ.get("GRADSIFT_QUEUE", "")
"""KFP takes no parameters for a volume that may be missing or for a pod's label: these are fixed at compilation."""
MODELS = "/models"


def mount_environment(task: dsl.PipelineTask, secret: Any, settings: Any) -> None:
    """Mount the Secret and the ConfigMap that become a task's environment, and give it the run's id.

    Each is one volume, however many variables it holds: an entry for each of them would stand many times in the
    workflow's status, whose size has a limit. What is not there is left out: a cluster may give S3 credentials by
    the pod's identity, or have no MLflow.

    Args:
        task: the task.
        secret: name of the Secret with all credentials, a text or a pipeline parameter.
        settings: name of the ConfigMap with addresses and folders for caches, the same.
    """
    kubernetes.use_secret_as_volume(task, secret, f"{MOUNTS}/secret", optional=True)
    kubernetes.use_config_map_as_volume(task, settings, f"{MOUNTS}/settings", optional=True)
    kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
    kubernetes.empty_dir_mount(task, "tmp", "/tmp")
    # A step finds what it has finished by digests of its inputs and code, which KFP's cache knows nothing of.
    task.set_caching_options(False)


def set_resources(task: dsl.PipelineTask, cpu: Any, memory: Any, retry: bool = True) -> None:
    """Give a task what a step without a model needs, and try a lost pod again, unless `retry` is false."""
    task.set_cpu_request(cpu).set_memory_limit(memory)  # what is requested is the limit
    _register(task, cpu, memory)
    kubernetes.set_timeout(task, SMALL_HOURS * 3600)
    if retry:
        _set_retry(task)


def set_training_resources(
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
        gpus: number of GPUs, a text.
        gpu_type: resource name of a GPU.
        node_selector: labels that the node must have, a pipeline parameter.
        tolerations: taints that the node may have, a pipeline parameter with a list.
    """
    task.set_cpu_request(cpu).set_memory_limit(memory)  # what is requested is the limit
    task.set_accelerator_type(gpu_type).set_accelerator_limit(gpus)
    _register(task, cpu, memory, gpus, gpu_type)
    kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory")
    kubernetes.add_node_selector_json(task, node_selector)
    kubernetes.add_toleration_json(task, tolerations)
    kubernetes.set_timeout(task, LARGE_HOURS * 3600)
    if QUEUE:
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", QUEUE)
    mount_model_cache(task)
    _set_retry(task)


def mount_model_cache(task: dsl.PipelineTask) -> None:
    """Mount the volume of downloaded models, where the pipeline is compiled for one."""
    if MODEL_CACHE:
        kubernetes.mount_pvc(task, pvc_name=MODEL_CACHE, mount_path=MODELS)
        task.set_env_variable("HF_HOME", MODELS)


def _register(task: dsl.PipelineTask, *resources: Any) -> None:
    """Have the groups around a task hand down its resources: KFP's compiler does so for arguments alone."""
    channels = [each for each in resources if isinstance(each, PipelineChannel)]
    task.register_pipeline_channels(channels)


def _set_retry(task: dsl.PipelineTask) -> None:
    task.set_retry(num_retries=RETRIES, backoff_duration="30s", backoff_factor=2.0)
