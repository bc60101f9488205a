"""What a group of settings is: immutable, checked when it is made, with one sentence for each wrong value."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from gradsift.components.shared.credentials import LOGIN, redacted
from gradsift.components.shared.errors import InputError, numbered, shown

MAX_COUNT = 10**9
"""Bound of numbers of rows, steps, tokens and the like."""
MAX_SEED = 2**32 - 1
"""NumPy's largest seed."""
FORM = "form"
KINDS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "string_unicode": "valid Unicode",
    "list_type": "a list",
    "too_short": "a list that is not empty",
    "dict_type": "a mapping",
    "string_too_short": "a text that is not empty",
}


class SettingsError(InputError):
    """Settings are impossible.

    Attributes:
        problems: a sentence for each thing that is wrong.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(numbered(problems))
        self.problems = [redacted(problem) for problem in problems]


class Settings(BaseModel):
    """A group of parameters: each field is one, with its type, default, bounds and description.

    A parameter's full name is `<GROUP>_<field>`, or the one that `form_field` gave it.

    Raises:
        SettingsError: a value is impossible.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=False)

    GROUP: ClassVar[str] = ""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError([self._sentence(each) for each in error.errors()]) from None

    def changes(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults."""
        return self.model_dump(exclude_defaults=True)

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule between fields that is broken."""
        yield from ()

    @model_validator(mode="before")
    @classmethod
    def _read_whole_numbers(cls, values: Any) -> Any:
        return with_whole_numbers(values)

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        if problems := [*self._logins(), *self.rules()]:
            raise SettingsError(problems)
        return self

    def _logins(self) -> Iterator[str]:
        """Yield a sentence for each parameter with an address that holds a user name or password."""
        for field in type(self).model_fields:
            if LOGIN.search(str(getattr(self, field))):
                yield (
                    f"Parameter {self.full_name(field)} holds a user name or password: expected an address without "
                    "them, as credentials come from the environment alone."
                )

    @classmethod
    def full_name(cls, field: str) -> str:
        """Return a field's name among the pipeline's parameters."""
        if name := form_name(cls.model_fields[field]):
            return name
        owner = next(base for base in cls.__mro__ if field in inspect.get_annotations(base))
        group = cls.GROUP or getattr(owner, "GROUP", "")
        return f"{group}_{field}" if group else field

    @classmethod
    def _sentence(cls, error: Mapping[str, Any]) -> str:
        name, *inside = error["loc"]
        if name not in cls.model_fields:
            return f"There is no setting {name!r}: expected one of {', '.join(cls.model_fields)}."
        where = "".join(f"[{part!r}]" for part in inside)
        expected = _expected(cls.model_fields[name], error)
        return f"Parameter {cls.full_name(name)}{where} is {shown(error['input'])}: expected {expected}."


def form_field(name: str, default: Any, *, description: str, **bounds: Any) -> Any:
    """Declare a parameter that is a field of the form in Kubeflow's UI, under a name of its own.

    Args:
        name: its full name.
        default: its default.
        description: what it is.
        **bounds: as of pydantic's `Field`.
    """
    return Field(default, description=description, json_schema_extra={FORM: name}, **bounds)


def form_name(field: FieldInfo) -> str | None:
    """Return the name of a field of the form, or None of any other parameter."""
    extra = field.json_schema_extra
    return str(extra[FORM]) if isinstance(extra, dict) and FORM in extra else None


def with_whole_numbers(value: Any) -> Any:
    """Return a JSON value with 40.0 read as 40: Kubeflow keeps all numbers as floats."""
    if isinstance(value, dict):
        return {name: with_whole_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [with_whole_numbers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def repeated(name: str, values: Sequence[Any], what: str = "task") -> Iterator[str]:
    """Yield a sentence for each value that a list of tasks, or of what it says, holds more than once."""
    for value in dict.fromkeys(each for each in values if values.count(each) > 1):
        yield f"Parameter {name} holds {value!r} more than once: expected each {what} once."


def _expected(field: FieldInfo, error: Mapping[str, Any]) -> str:
    kind, limits = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        [choice] = get_args(field.annotation) if get_origin(field.annotation) is list else [field.annotation]
        return f"one of {', '.join(map(str, get_args(choice)))}"
    bounds = {
        name: getattr(each, name) for each in field.metadata for name in ("ge", "le") if hasattr(each, name)
    }
    if bounds == {"ge": 0, "le": 1} and field.annotation is float:
        return "0 to 1"
    words = {
        "greater_than_equal": "{ge:,} or more",
        "greater_than": "a number above {gt:,}",
        "less_than_equal": "{le:,} or less",
        "less_than": "a number below {lt:,}",
    }
    if kind in words:
        return words[kind].format(**{name: _plain(limit) for name, limit in limits.items()})
    return KINDS.get(kind, error["msg"])


def _plain(limit: float) -> float:
    return int(limit) if float(limit).is_integer() else limit
