"""Runs a step's work under tracking and hands its output to KFP: what every component's body calls."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gradsift.components.shared.artifacts.step_output import StepOutput, write_pointer
from gradsift.components.shared.process.lifeline import hold_lifeline
from gradsift.components.shared.process.outages import wait_through_outages
from gradsift.components.shared.process.pod_environment import GPUS
from gradsift.components.shared.process.protection import protect_process
from gradsift.components.shared.tracking.tracking import StepTracker, track_step


@contextmanager
def begin_step(step: str, settings: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[StepTracker]:
    """Record how the block goes, a step or a part of one, in a process that waits through outages.

    Args:
        step: its name in the run's record.
        settings: what preflight resolved: `output_uri` is the run root, `gpus` the number of GPUs
            of the step's pod.
        params: the step's settings, for tracking.
    """
    protect_process()
    hold_lifeline()
    wait_through_outages()
    if "KUBERNETES_SERVICE_HOST" in os.environ:  # a laptop trains with what it has
        os.environ[GPUS] = str(settings.get("gpus", 0))
    with track_step(step, settings["output_uri"], params) as tracker:
        yield tracker


def run_step(
    step: str,
    settings: Mapping[str, Any],
    params: Mapping[str, Any],
    work: Callable[[StepTracker], StepOutput],
    artifact: Any,
) -> StepOutput:
    """Run `work`, record how it went, and make the KFP artifact point to its output.

    Args:
        step: see `begin_step`, as `settings` and `params`.
        settings: what preflight resolved.
        params: the step's settings, for tracking.
        work: makes the step's output or finds it finished; its numeric metadata become metrics.
        artifact: the KFP output artifact.
    """
    with begin_step(step, settings, params) as tracker:
        output = work(tracker)
        record_output(output, tracker)
        write_pointer(output, artifact)
    return output


def record_output(output: StepOutput, tracker: StepTracker) -> None:
    """Record the numbers in an output's metadata as metrics, and whether it was found finished."""
    if output.reused:
        tracker.reused()
    numbers = {
        name: value
        for name, value in output.metadata.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    tracker.metrics(numbers)
