"""Reads a JSON document that a person or a step wrote, and refuses what JSON readers differ about."""

import json
from typing import Any, NoReturn

from gradsift.components.shared.errors import InputError


def load_json(text: str, where: str) -> Any:
    """Return what a JSON document holds.

    Args:
        text: the document.
        where: the file, with the line where the document is one, for errors.

    Raises:
        InputError: it is no JSON, holds NaN or an infinite number, or names a key of an object twice.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({error}), expected a JSON object.") from None


def load_json_object(content: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object in a file's content.

    Raises:
        InputError: the content is not UTF-8 or no such object.
    """
    document = load_json(decoded(content, where), where)
    if not isinstance(document, dict):
        raise InputError(f"{where} holds {type(document).__name__}, expected a JSON object.")
    return document


def decoded(content: bytes, where: str) -> str:
    """Return a file's content as text, without a byte order mark; raises InputError where it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{where}, line {line} is not UTF-8 (byte 0x{content[error.start]:02x}), expected text in UTF-8."
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!r} is there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if abs(number) == float("inf"):
        raise ValueError(f"{text[:60]} is too large a number")
    return number
