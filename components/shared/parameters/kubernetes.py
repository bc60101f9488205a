"""What the pipeline asks Kubernetes for: resources of the steps, names of its objects, and where pods may run."""

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from gradsift.components.shared.parameters.settings import Settings, form_field

QUANTITY = r"(\d+(\.\d+)?|\.\d+)(m|k|M|G|T|Ki|Mi|Gi|Ti)?"
NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
"""A name that Kubernetes takes for a volume too."""
SUBDOMAIN = rf"{NAME}(\.{NAME})*"
"""A name that Kubernetes takes for most of its objects."""
TOLERATION = {"key", "operator", "value", "effect", "tolerationSeconds"}


class ResourcesConfig(Settings):
    """What the steps request."""

    GROUP: ClassVar[str] = "resources"

    cpu: str = form_field(
        "cpu", "4", description="CPU cores requested by the steps that train or extract gradients."
    )
    memory: str = form_field(
        "memory",
        "16Gi",
        description="memory requested by and allowed to them; shared memory, which GPUs talk through, "
        "counts.",
    )
    gpus: int = form_field(
        "gpus", 1, description="GPUs of each of them; 0 computes on the CPU.", ge=0, le=1000
    )
    gpu_type: str = form_field("gpu_type", "nvidia.com/gpu", description="resource name of a GPU.")
    small_cpu: str = Field("2", description="CPU cores requested by the other steps.")
    small_memory: str = Field("8Gi", description="memory requested by and allowed to the other steps.")

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each value that Kubernetes would refuse."""
        for field in ("cpu", "memory", "small_cpu", "small_memory"):
            value = getattr(self, field)
            if not re.fullmatch(QUANTITY, value):
                name = self.full_name(field)
                yield f"Parameter {name} is {value!r}: expected a quantity such as '4' or '16Gi'."
        if not re.fullmatch(r"[a-z0-9.-]+/[A-Za-z0-9._-]+", self.gpu_type):
            yield f"Parameter gpu_type is {self.gpu_type!r}: expected a resource's name such as 'nvidia.com/gpu'."


class PlatformConfig(Settings):
    """What pods are given, by name, and where they may run."""

    GROUP: ClassVar[str] = "platform"

    secret: str = form_field(
        "platform_secret",
        "gradsift",
        description="name of the Secret with any of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, "
        "MLFLOW_TRACKING_TOKEN, MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD and HF_TOKEN; it may be "
        "missing, as where pods have an identity of their own.",
    )
    settings: str = form_field(
        "platform_settings",
        "gradsift-settings",
        description="name of the ConfigMap with the addresses of S3 and MLflow; it may be missing.",
    )
    node_selector: dict[str, str] = form_field(
        "platform_node_selector",
        {},
        description="labels that nodes must have for the steps that train or extract gradients, a mapping "
        'such as {"pool": "gpu"}.',
    )
    tolerations: list[dict[str, Any]] = form_field(
        "platform_tolerations",
        [],
        description="taints that those nodes may have, a list of Kubernetes' tolerations.",
    )

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each value that Kubernetes would refuse."""
        for field in ("secret", "settings"):
            value = getattr(self, field)
            if not re.fullmatch(NAME, value):
                yield (
                    f"Parameter platform_{field} is {value!r}: expected the name of a Kubernetes object, at most "
                    "63 lower-case letters, digits and '-'."
                )
        if self.settings == self.secret:
            yield (
                f"Parameter platform_settings is {self.settings!r}, as platform_secret is: expected another name, "
                "as each names a volume of the pods."
            )
        for each in self.tolerations:
            if not each.keys() <= TOLERATION:
                yield (
                    f"Parameter platform_tolerations holds {each!r}: expected mappings with some of "
                    f"{', '.join(sorted(TOLERATION))}."
                )
