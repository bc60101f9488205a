"""The KFP interface of training on several nodes: what each pod is given, and that nothing is left behind."""

from typing import NamedTuple

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def place_training(
    nodes: int,
    cpu: str,
    memory: str,
    gpus: int,
    gpu_type: str,
    small_cpu: str,
    small_memory: str,
) -> NamedTuple("Placement", cpu=str, memory=str, gpus=int, node_resources=dict):  # type: ignore[valid-type]
    """Say what the pods of the steps that train are given: on several nodes they only launch and need no GPUs.

    Args:
        nodes: machines that train together.
        cpu: CPU cores of whatever trains.
        memory: memory of whatever trains.
        gpus: GPUs of whatever trains.
        gpu_type: resource name of a GPU.
        small_cpu: CPU cores of a step that does not train.
        small_memory: memory of a step that does not train.

    Returns:
        `cpu`, `memory` and `gpus` of the steps' pods, and the resources of a node by their names.
    """
    node_resources = {"cpu": cpu, "memory": memory, gpu_type: gpus}
    if nodes > 1:
        return small_cpu, small_memory, 0, node_resources
    return cpu, memory, gpus, node_resources


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def delete_leftovers(nodes: int) -> None:
    """Delete what TrainJobs of the run are left when it has ended, however it did.

    Args:
        nodes: machines that train together; 1 makes no TrainJobs.
    """
    if nodes > 1:
        from gradsift.components.shared.tracking import run_id
        from gradsift.components.shared.train_job import delete_train_jobs

        for name in delete_train_jobs(run_id()):
            print(f"TrainJob {name} was left and is deleted.")
