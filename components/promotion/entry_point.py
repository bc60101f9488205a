"""Promotion as tasks of the pipeline: artifacts and settings in, artifacts out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradsift.components.promotion.freshness import is_changed
from gradsift.components.shared.artifacts.step_output import read_pointer
from gradsift.components.shared.parameters.promotion import PromotionConfig
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.step_run import begin_step


def compare_with_champion(data: Any, settings: Mapping[str, Any]) -> str:
    """Say whether this run's data or settings differ from those of the registered model."""
    config = PromotionConfig(**settings["config"])
    if not config.model_name:
        return "changed"

    with begin_step("freshness", settings, {"model_name": config.model_name}) as tracker:
        changed = is_changed(config, read_pointer(data), settings["digest"], settings["output_uri"], tracker)
    return "changed" if changed else "unchanged"


def promote_model(data: Any, model: Any, decision: Any, settings: Mapping[str, Any]) -> None:
    """Register the fine-tuned model as candidate, and as champion if it is good enough."""
    from gradsift.components.promotion import step  # the image of the other task has not what it needs

    config, root = PromotionConfig(**settings["config"]), settings["output_uri"]
    with begin_step(step.STEP, settings, config.model_dump()) as tracker:
        made = step.promote(
            config, read_pointer(data), read_pointer(model), settings["digest"], root, tracker
        )
        tracker.metrics({"promoted": float(made.promoted)})
    with atomic_file(Path(decision.path)) as path:
        path.write_text(f"# Promotion\n\n{made.words}\n", encoding="utf-8")
