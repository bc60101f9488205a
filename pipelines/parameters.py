"""The pipeline's parameters as they are given: on the command line, in files, and checked before a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.pipeline_settings import (
    Parameter,
    known_parameters,
    unknown_name,
)

KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a JSON mapping",
}


def given_parameters(
    options: Mapping[str, Any], file: Path | None = None, settings: list[str] | None = None
) -> dict[str, Any]:
    """Return the parameters that a command was given, each of its own type.

    What options and `name=value` texts say takes the place of what the file says.

    Args:
        options: parameters that have an option of their own; None where it was not given.
        file: YAML file of parameters.
        settings: `name=value` texts.

    Raises:
        InputError: a name is not a parameter or is given twice, a value is of another type, or the file cannot be
            read.
    """
    given = {name: value for name, value in options.items() if value is not None}
    texts = parse_settings(settings or [])
    if twice := sorted(given.keys() & texts.keys()):
        raise InputError(f"Parameter {twice[0]} is given twice: expected it as an option or by --set.")
    return {**({} if file is None else read_parameters(file)), **given, **texts}


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Turn `name=value` texts into parameters, each of its own type.

    Raises:
        InputError: a text has no `=`, its name is not a parameter or stands twice, or its value is of another
            type.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"The setting {setting!r} has no value: expected name=value.")
        if name not in known_parameters():
            raise InputError(unknown_name(name))
        if name in values:
            raise InputError(f"Parameter {name} is given twice: expected one value.")
        values[name] = _parsed(known_parameters()[name], text)
    return values


def read_parameters(path: Path) -> dict[str, Any]:
    """Read a YAML file of parameters, a mapping from names to values.

    Raises:
        InputError: the file cannot be read, is not such a mapping, or holds what is no parameter.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise InputError(f"{path} is not YAML{where}: expected a mapping of parameters.") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"{path} is not a mapping of parameters: expected lines such as `target: sst2`.")
    try:
        return typed_parameters(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def typed_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters that YAML holds, each of its own type: `5e-5` is a text in YAML.

    Raises:
        InputError: a name is not a parameter, or its value is of another type.
    """
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, default=str)
        for name, value in parameters.items()
    }
    return parse_settings([f"{name}={text}" for name, text in texts.items()])


def parameters_yaml() -> str:
    """Return a YAML file of all parameters with their defaults, each below its description."""
    lines = ["# Parameters of gradsift's pipeline. Delete the lines that stay as they are."]
    for name, parameter in known_parameters().items():
        lines += ["", f"# {parameter.description}", f"{name}: {json.dumps(parameter.default)}"]
    return "\n".join(lines) + "\n"


def _parsed(parameter: Parameter, text: str) -> Any:
    kind = parameter.kind
    if kind is str:
        return text
    try:
        value = json.loads(text) if kind in (bool, list, dict) else kind(text)
    except ValueError:
        value = None
    if kind is list and not isinstance(value, list):
        value = [part.strip() for part in text.split(",") if part.strip()]
    if type(value) is not kind:
        raise InputError(f"Parameter {parameter.name} is {text!r}: expected {KINDS[kind]}.")
    return value
