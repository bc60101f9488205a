"""Gradient extraction as tasks of the pipeline: artifacts and settings in, artifacts out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.gradient_extraction import step
from gradsift.components.gradient_extraction.shards.parts import Part
from gradsift.components.shared.artifacts.step_output import read_pointer
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.tracking.step_run import begin_step, run_step


def extract_part(data: Any, model: Any, settings: Mapping[str, Any], part: str) -> None:
    """Write the projected gradients of one part's rows at theta*."""
    config = GradientExtractionConfig(**settings["config"])
    inputs = read_pointer(data), read_pointer(model)
    with begin_step(f"{step.STEP}-{part}", settings, {}) as tracker:
        if step.extract_part(config, *inputs, Part(int(part), config.pods), settings["output_uri"], tracker):
            tracker.reused()


def seal_gradients(data: Any, model: Any, gradients: Any, settings: Mapping[str, Any]) -> None:
    """Make the finished parts one gradient store, of every train row and of the target's validation rows."""
    config = GradientExtractionConfig(**settings["config"])
    run_step(
        step.STEP,
        settings,
        config.model_dump(),
        lambda _: step.seal_store(config, read_pointer(data), read_pointer(model), settings["output_uri"]),
        gradients,
    )
