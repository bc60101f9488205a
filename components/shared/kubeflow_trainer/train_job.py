"""A TrainJob in the cluster: how it is made or found again, where it stands, and how it goes away."""

import time
from contextlib import suppress

from gradsift.components.shared.errors import TrainingError
from gradsift.components.shared.kubeflow_trainer.kubernetes_api import (
    ConflictError,
    KubernetesApi,
    KubernetesError,
    ObjectNotFoundError,
    Thing,
)
from gradsift.components.shared.kubeflow_trainer.train_job_payload import (
    DIGEST,
    GROUP,
    MANAGED_BY,
    PLURAL,
    RUN,
    VERSION,
    every_node,
)

DELETE_SECONDS = 300.0
"""How long a TrainJob may take to disappear."""
DELETE_POLL_SECONDS = 2.0


class TrainJob:
    """A TrainJob by its name, whether or not it exists."""

    def __init__(self, api: KubernetesApi, name: str) -> None:
        self.api = api
        self.name = name
        self._place = (GROUP, VERSION, api.namespace, PLURAL)

    def create(self, payload: Thing) -> None:
        """Create the TrainJob; another try of the step may have done so at the same moment."""
        try:
            self.api.call(self.api.custom.create_namespaced_custom_object, *self._place, payload)
        except ConflictError:
            if not self.adopt(payload):
                raise
        except ObjectNotFoundError as error:
            raise KubernetesError(
                f"The cluster has no TrainJobs: expected Kubeflow Trainer v2 there ({error})"
            ) from None

    def adopt(self, payload: Thing) -> bool:
        """Return whether the TrainJob exists, works on just this, and has not failed; else make way for it."""
        found = self._get()
        if found is None:
            return False
        metadata = found["metadata"]
        same = metadata.get("annotations", {}).get(DIGEST) == payload["metadata"]["annotations"][DIGEST]
        if not same or "deletionTimestamp" in metadata or _state(found)["type"] == "Failed":
            self._delete_and_wait()
            return False
        owners = {"metadata": {"ownerReferences": payload["metadata"]["ownerReferences"]}}
        self.api.call(self.api.custom.patch_namespaced_custom_object, *self._place, self.name, owners)
        print(f"TrainJob {self.name} of an earlier try is there; it is followed.", flush=True)
        return True

    def state(self) -> Thing:
        """Return the condition that tells where the TrainJob stands.

        Raises:
            TrainingError: it is gone.
        """
        found = self._get()
        if found is None:
            raise TrainingError(f"TrainJob {self.name} was deleted while it trained; run the pipeline again.")
        return _state(found)

    def pods(self) -> list[Thing]:
        """Return its pods."""
        core = self.api.core
        return self.api.items(
            core.list_namespaced_pod, self.api.namespace, label_selector=every_node(self.name)
        )

    def delete(self, patience: float) -> None:
        """Delete it with its pods; it may be gone already."""
        with suppress(ObjectNotFoundError):
            self.api.call(
                self.api.custom.delete_namespaced_custom_object,
                *self._place,
                self.name,
                propagation_policy="Foreground",
                patience=patience,
            )

    def _get(self) -> Thing | None:
        try:
            return dict(self.api.call(self.api.custom.get_namespaced_custom_object, *self._place, self.name))
        except ObjectNotFoundError:
            return None

    def _delete_and_wait(self) -> None:
        self.delete(patience=DELETE_SECONDS)
        deadline = time.monotonic() + DELETE_SECONDS
        while self._get() is not None:
            if time.monotonic() > deadline:
                raise KubernetesError(
                    f"TrainJob {self.name} was deleted {DELETE_SECONDS:.0f} seconds ago, yet is there still."
                )
            time.sleep(DELETE_POLL_SECONDS)


def delete_train_jobs(run: str) -> list[str]:
    """Delete what TrainJobs of a pipeline run are left; return their names."""
    api = KubernetesApi()
    labels = ",".join(f"{key}={value}" for key, value in {**MANAGED_BY, RUN: run}.items())
    place = (GROUP, VERSION, api.namespace, PLURAL)
    found = api.items(api.custom.list_namespaced_custom_object, *place, label_selector=labels)
    names = [each["metadata"]["name"] for each in found]
    for name in names:
        TrainJob(api, name).delete(patience=60.0)
    return names


def _state(found: Thing) -> Thing:
    """Return the condition that decides: the end, else that it waits for its quota, else that it runs."""
    conditions = {
        each["type"]: each
        for each in found.get("status", {}).get("conditions", [])
        if each["status"] == "True"
    }
    for kind in ("Complete", "Failed", "Suspended"):
        if kind in conditions:
            return dict(conditions[kind])
    return {"type": "Running"}
