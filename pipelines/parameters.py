"""The pipeline's parameters as they are given: on the command line, in files, and checked before a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradsift.components.shared.documents.yaml_document import MAX_YAML_BYTES, load_yaml
from gradsift.components.shared.errors import InputError, shown
from gradsift.components.shared.parameters.pipeline_settings import (
    Parameter,
    known_parameters,
    unknown_name,
)
from gradsift.components.shared.storage.bounded_reading import read_local_file

EXAMPLES = Path(__file__).parent / "examples"
"""Folder of the shipped examples, each a YAML file of parameters."""
KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a JSON mapping",
    str: "a text",
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
        InputError: the file is not such a mapping, or holds what is no parameter.
        StorageError: the file cannot be read.
    """
    content = load_yaml(read_local_file(path, MAX_YAML_BYTES), str(path), "a mapping of parameters")
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"{path} is not a mapping of parameters: expected lines such as `target: sst2`.")
    try:
        return typed_parameters(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def example_file(name: str) -> Path:
    """Return the YAML file of a shipped example's parameters.

    Raises:
        InputError: there is no such example.
    """
    known = {path.stem: path for path in sorted(EXAMPLES.glob("*.yaml"))}
    if name not in known:
        raise InputError(f"There is no example {shown(name)}: expected one of {', '.join(known)}.")
    return known[name]


def typed_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters that YAML holds, each of its own type: `5e-5` is a text in YAML.

    Raises:
        InputError: a name is not a parameter, or its value is of another type.
    """
    return {name: _typed(name, value) for name, value in parameters.items()}


def parameters_yaml() -> str:
    """Return a YAML file of all parameters with their defaults, each below its description."""
    lines = ["# Parameters of gradsift's pipeline. Delete the lines that stay as they are."]
    for name, parameter in known_parameters().items():
        lines += ["", f"# {parameter.description}", f"{name}: {json.dumps(parameter.default)}"]
    return "\n".join(lines) + "\n"


def _typed(name: str, value: Any) -> Any:
    if name not in known_parameters():
        raise InputError(unknown_name(name))
    parameter = known_parameters()[name]
    if isinstance(value, str):
        return _parsed(parameter, value)
    kind = parameter.kind
    if kind in (str, int, float) and type(value) in (int, float):
        return _parsed(parameter, json.dumps(value))
    if type(value) is not kind:
        raise _wrong_type(parameter, json.dumps(value))
    return _items(parameter, value) if isinstance(value, list) else value


def _parsed(parameter: Parameter, text: str) -> Any:
    kind = parameter.kind
    if kind is str:
        return text
    try:
        value = json.loads(text) if kind in (bool, list, dict) else kind(text)
    except (ValueError, RecursionError):
        value = None
    if kind is list and not isinstance(value, list):
        value = [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(value, list):
        value = _items(parameter, value)
    if type(value) is not kind:
        raise _wrong_type(parameter, text)
    return value


def _items(parameter: Parameter, values: list[Any]) -> list[Any]:
    """Return a list's values, the texts as numbers where it is a list of numbers and they are."""
    if not parameter.is_of_numbers:
        return values
    try:
        return [float(each) if isinstance(each, str) else each for each in values]
    except ValueError:
        return values


def _wrong_type(parameter: Parameter, text: str) -> InputError:
    return InputError(f"Parameter {parameter.name} is {shown(text)}: expected {KINDS[parameter.kind]}.")
