"""Runs a step's work under tracking and hands its output to KFP: what every component's body calls."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

from gradsift.components.shared.lifeline import hold_lifeline
from gradsift.components.shared.outages import wait_through_outages
from gradsift.components.shared.step_output import StepOutput, write_pointer
from gradsift.components.shared.tracking import StepTracker, track_step


def open_step(
    step: str,
    root_uri: str,
    params: Mapping[str, Any],
    node_resources: Mapping[str, Any] = MappingProxyType({}),
) -> AbstractContextManager[StepTracker]:
    """Track a block as a step (see `track_step`), in a process that waits through outages."""
    hold_lifeline()
    wait_through_outages()
    return track_step(step, root_uri, params, node_resources)


def run_step(
    step: str,
    root_uri: str,
    params: Mapping[str, Any],
    work: Callable[[StepTracker], StepOutput],
    artifact: Any,
    node_resources: Mapping[str, Any] = MappingProxyType({}),
) -> StepOutput:
    """Run `work`, record how it went, and make the KFP artifact point to its output.

    Args:
        step: the step's package name under `components/`.
        root_uri: the run root, a local path or an `s3://` address.
        params: the step's settings, for tracking.
        work: makes the step's output or finds it finished; its numeric metadata become metrics.
        artifact: the KFP output artifact.
        node_resources: what each node gets where the step trains on several: `cpu`, `memory`, and GPUs by their
            resource name.
    """
    with open_step(step, root_uri, params, node_resources) as tracker:
        output = work(tracker)
        if output.reused:
            tracker.reused()
        numbers = {
            name: value
            for name, value in output.metadata.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        tracker.metrics(numbers)
        write_pointer(output, artifact)
    return output
