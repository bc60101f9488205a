"""The KFP interface of work on several nodes: nothing of it is left behind."""

from gradsift.components.shared.images import CPU_IMAGE, component


@component(CPU_IMAGE)
def delete_leftovers(nodes: int, settings: dict) -> None:
    """Delete what TrainJobs of the run are left when it has ended, however it did.

    Args:
        nodes: machines that train together; 1 makes no TrainJobs.
        settings: the parameters that are no fields of the form; `extract_pods` above 1 makes TrainJobs, too.
    """
    if max(nodes, settings.get("extract_pods", 1)) > 1:
        from gradsift.components.shared.kubeflow_trainer.train_job import delete_train_jobs
        from gradsift.components.shared.tracking.event_log import run_id

        for name in delete_train_jobs(run_id()):
            print(f"TrainJob {name} was left and is deleted.")
