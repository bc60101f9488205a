"""A digest of what decides a run's result beside its data, by which promotion knows a run that changes nothing."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from gradsift.components.shared.step_output import digest_of

WITHOUT_EFFECT = (
    "output_uri",
    "prepare_",
    "extract_processes",
    "extract_pods",
    "promote_",
    "resources_",
    "platform_",
)
"""Parameters that do not decide what comes out; what `prepare_` decides is in the data's digest."""


def settings_digest(parameters: Mapping[str, Any]) -> str:
    """Return a digest of gradsift's version and of the pipeline's parameters that decide what comes out."""
    deciding = {name: value for name, value in parameters.items() if not name.startswith(WITHOUT_EFFECT)}
    return digest_of([version("gradsift"), deciding])
