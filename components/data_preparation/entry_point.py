"""Data preparation as a task of the pipeline: settings in, artifacts out."""

from collections.abc import Mapping
from typing import Any

from gradsift.components.data_preparation import step
from gradsift.components.shared.artifacts.step_output import copy_file
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.tracking.step_run import run_step


def prepare_data(data: Any, statistics: Any, settings: Mapping[str, Any]) -> None:
    """Read a task suite, check and clean it, and write it as Arrow tables."""
    config, model = DataPreparationConfig(**settings["config"]), ModelConfig(**settings["model"])
    output = run_step(
        "data_preparation",
        settings,
        config.model_dump(),
        lambda _: step.prepare_data(config, settings["output_uri"], model),
        data,
    )
    copy_file(output, "statistics.md", statistics)
