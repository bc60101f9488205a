"""The KFP interface of training on several nodes: nothing of it is left behind."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def delete_leftovers(nodes: int) -> None:
    """Delete what TrainJobs of the run are left when it has ended, however it did.

    Args:
        nodes: machines that train together; 1 makes no TrainJobs.
    """
    if nodes > 1:
        from gradsift.components.shared.kubeflow_trainer.train_job import delete_train_jobs
        from gradsift.components.shared.tracking.event_log import run_id

        for name in delete_train_jobs(run_id()):
            print(f"TrainJob {name} was left and is deleted.")
