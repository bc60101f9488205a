"""The pipeline's parameters: read from the pipeline, given on the command line, checked before a run."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from gradsift.components.calibration.config import CalibrationConfig
from gradsift.components.data_preparation.config import DataPreparationConfig
from gradsift.components.evaluation.config import EvaluationConfig
from gradsift.components.gradient_extraction.config import GradientExtractionConfig
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.training_recipe import ModelConfig, TrainingRecipe
from gradsift.components.subset_estimation.config import SubsetEstimationConfig
from gradsift.pipelines.pipeline import gradsift_pipeline

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
CONFIGS: list[tuple[tuple[str, ...], type[Any]]] = [
    (("prepare",), DataPreparationConfig),
    (("model",), ModelConfig),
    (("meta", "train"), TrainingRecipe),
    (("extract",), GradientExtractionConfig),
    (("calibrate",), CalibrationConfig),
    (("estimate",), SubsetEstimationConfig),
    (("fine_tune", "train"), TrainingRecipe),
    (("evaluate",), EvaluationConfig),
]


def defaults() -> dict[str, Any]:
    """Return every parameter of the pipeline with its default."""
    inputs = gradsift_pipeline.component_spec.inputs
    return {name: definition.default for name, definition in inputs.items()}


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Turn `name=value` texts into parameters, each of its default's type.

    Raises:
        InputError: a text has no `=`, its name is not a parameter, or its value is of another type.
    """
    known = defaults()
    values = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"The setting {setting!r} has no value: expected name=value.")
        if name not in known:
            close = [other for other in known if name in other or other.split("_", 1)[-1] in name]
            hint = f"; did you mean {', '.join(close[:3])}?" if close else "; see `gradsift parameters`."
            raise InputError(f"There is no parameter {name!r}{hint}")
        values[name] = _parsed(name, text, known[name])
    return values


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Check all parameters before anything runs.

    Raises:
        InputError: a value is impossible; the message names the pipeline's parameter.
    """
    for prefixes, config in CONFIGS:
        config_of(config, prefixes, parameters)
    if parameters["extract_base_weights"] and parameters["model_head"] != "label_embedding":
        raise InputError(
            f"Parameter model_head is {parameters['model_head']!r}: expected 'label_embedding' where "
            "extract_base_weights is true, as another head means nothing before it is trained."
        )


def config_of(config: type[Config], prefixes: tuple[str, ...], parameters: Mapping[str, Any]) -> Config:
    """Return a step's settings from the pipeline's parameters that begin with one of the prefixes.

    Raises:
        InputError: a value is impossible; the message names the pipeline's parameter.
    """
    names = {
        field.name: f"{prefix}_{field.name}"
        for field in dataclasses.fields(config)
        for prefix in prefixes
        if f"{prefix}_{field.name}" in parameters
    }
    try:
        return config(**{field: parameters[name] for field, name in names.items()})
    except InputError as error:
        raise InputError(_with_full_names(str(error), names)) from None


def _with_full_names(message: str, names: Mapping[str, str]) -> str:
    return re.sub(r"^(Parameter )?(\w+)", lambda m: (m[1] or "") + names.get(m[2], m[2]), message)


def _parsed(name: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    try:
        value = json.loads(text) if isinstance(default, bool | list | dict) else type(default)(text)
    except ValueError:
        value = None
    if isinstance(default, list) and not isinstance(value, list):
        value = [part.strip() for part in text.split(",") if part.strip()]
    if type(value) is not type(default):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", dict: "a JSON mapping"}
        raise InputError(f"Parameter {name} is {text!r}: expected {kinds[type(default)]}.")
    return value
