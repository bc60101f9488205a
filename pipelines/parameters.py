"""The pipeline's parameters: read from the pipeline, given on the command line, checked before a run."""

import json
from collections.abc import Mapping
from typing import Any

from gradsift.components.preflight.parameter_checks import parameter_problems
from gradsift.components.shared.errors import InputError, numbered
from gradsift.pipelines.pipeline import gradsift_pipeline


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
        InputError: values are impossible; the message names the pipeline's parameters.
    """
    if problems := parameter_problems(parameters):
        raise InputError(numbered(problems))


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
