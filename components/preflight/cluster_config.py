"""What the pipeline asks Kubernetes for: resources of the steps, names of secrets, and where pods may run."""

import re
from dataclasses import dataclass, field
from typing import Any

from gradsift.components.shared.errors import InputError

QUANTITY = r"(\d+(\.\d+)?|\.\d+)(m|k|M|G|T|Ki|Mi|Gi|Ti)?"
NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
TOLERATION = {"key", "operator", "value", "effect", "tolerationSeconds"}


@dataclass(frozen=True)
class ResourcesConfig:
    """What the steps request.

    Attributes:
        cpu: CPU cores requested by the steps that train or extract gradients.
        memory: memory requested by and allowed to them; shared memory, which GPUs talk through, counts.
        gpus: GPUs of each of them; 0 computes on the CPU.
        gpu_type: resource name of a GPU.
        small_cpu: CPU cores requested by the other steps.
        small_memory: memory requested by and allowed to the other steps.

    Raises:
        InputError: a value that Kubernetes would refuse.
    """

    cpu: str = "4"
    memory: str = "16Gi"
    gpus: int = 1
    gpu_type: str = "nvidia.com/gpu"
    small_cpu: str = "2"
    small_memory: str = "8Gi"

    def __post_init__(self) -> None:
        for name in ("cpu", "memory", "small_cpu", "small_memory"):
            if not re.fullmatch(QUANTITY, getattr(self, name)):
                raise InputError(
                    f"Parameter {name} is {getattr(self, name)!r}: expected a quantity such as '4' or '16Gi'."
                )
        if self.gpus < 0:
            raise InputError(f"Parameter gpus is {self.gpus}: expected 0 or more.")
        if not re.fullmatch(r"[a-z0-9.-]+/[A-Za-z0-9._-]+", self.gpu_type):
            raise InputError(
                f"Parameter gpu_type is {self.gpu_type!r}: expected a resource's name such as 'nvidia.com/gpu'."
            )


@dataclass(frozen=True)
class PlatformConfig:
    """What pods are given, by name, and where they may run.

    Attributes:
        s3_secret: name of the Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; it may be missing where
            pods have an identity of their own.
        mlflow_secret: name of the Secret with MLFLOW_TRACKING_TOKEN, or _USERNAME and _PASSWORD; it may be
            missing.
        hub_secret: name of the Secret with HF_TOKEN, for gated models; it may be missing.
        settings: name of the ConfigMap with the addresses of S3 and MLflow; it may be missing.
        node_selector: labels that nodes must have for the steps that train or extract gradients, a mapping such
            as {"pool": "gpu"}.
        tolerations: taints that those nodes may have, a list of Kubernetes' tolerations.

    Raises:
        InputError: a value that Kubernetes would refuse.
    """

    s3_secret: str = "gradsift-s3"
    mlflow_secret: str = "gradsift-mlflow"
    hub_secret: str = "gradsift-hub"
    settings: str = "gradsift-settings"
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("s3_secret", "mlflow_secret", "hub_secret", "settings"):
            if not re.fullmatch(NAME, getattr(self, name)):
                raise InputError(
                    f"Parameter {name} is {getattr(self, name)!r}: expected the name of a Kubernetes object, "
                    "lower-case letters, digits, '-' and '.'."
                )
        for label, value in self.node_selector.items():
            if not isinstance(value, str):
                raise InputError(
                    f"Parameter node_selector gives the label {label!r} the value {value!r}: expected a text."
                )
        for each in self.tolerations:
            if not isinstance(each, dict) or not each.keys() <= TOLERATION:
                raise InputError(
                    f"Parameter tolerations holds {each!r}: expected mappings with some of "
                    f"{', '.join(sorted(TOLERATION))}."
                )
