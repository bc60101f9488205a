"""Data preparation as a task of the pipeline: settings in, artifacts out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.data_preparation import step
from gradsift.components.shared.artifacts.run_outputs import write_outputs
from gradsift.components.shared.artifacts.step_output import StepOutput, copy_file, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.data.two_groups import check_target_groups
from gradsift.components.shared.model_registry.freshness import is_changed
from gradsift.components.shared.model_registry.registry import CHAMPION
from gradsift.components.shared.model_registry.schedules import find_earlier_schedule
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.promotion import PromotionConfig
from gradsift.components.shared.tracking.step_run import begin_step, run_step


def prepare_data(data: Any, statistics: Any, settings: Mapping[str, Any]) -> tuple[str, str]:
    """Prepare the data, and see whether a run has learned from them: `changed` or `unchanged`."""
    config, model = DataPreparationConfig(**settings["config"]), ModelConfig(**settings["model"])
    root = settings["output_uri"]
    output = run_step(
        "data_preparation",
        settings,
        config.model_dump(),
        lambda _: step.prepare_data(config, root, model),
        data,
    )
    copy_file(output, "statistics.md", statistics)
    if "fairness" in settings:
        check_target_groups(FairnessConfig(**settings["fairness"]), PreparedData(fetch(output)))
    news, found = _ask_registry(output, settings)
    return write_outputs({"data": output, **found}, root), news


def _ask_registry(data: StepOutput, settings: Mapping[str, Any]) -> tuple[str, dict[str, StepOutput]]:
    """Return whether anything is new; and, if it is asked for and there is one, the schedule to begin with."""
    config = PromotionConfig(**settings["promotion"])
    if not config.model_name:
        return "changed", {}
    root = settings["output_uri"]
    with begin_step("freshness", settings, {"model_name": config.model_name}) as tracker:
        if not is_changed(config, data, settings["digest"], root, tracker):
            return "unchanged", {}
        earlier = None
        if settings.get("schedule_from") == CHAMPION:
            earlier = find_earlier_schedule(config.model_name, data, root)
    return "changed", {} if earlier is None else {"earlier_schedule": earlier}
