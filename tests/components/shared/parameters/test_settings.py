"""A group of settings: checked when it is made, one sentence for each wrong value, full names."""

import json
from collections.abc import Iterator
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.settings import (
    Settings,
    SettingsError,
    form_field,
    with_whole_numbers,
)


class Sauce(Settings):
    """A group for these tests."""

    GROUP: ClassVar[str] = "sauce"

    heat: int = Field(1, ge=0, le=5)
    share: float = Field(0.5, ge=0, le=1)
    salt: float = Field(1.0, gt=0, lt=10)
    kind: Literal["red", "green"] = "red"
    mild: bool = True
    parts: list[str] = Field([])
    name: str = form_field("dish", "x", description="what it is for.", min_length=1)

    def rules(self) -> Iterator[str]:
        """Yield a sentence for each rule that is broken."""
        if self.mild and self.heat > 3:
            yield "Parameter sauce_mild is True: expected false where sauce_heat is above 3."
        if self.kind in self.parts:
            yield "Parameter sauce_parts holds the sauce: expected its parts."


class Shared(Settings):
    """Fields that several groups share."""

    rate: float = Field(0.1, gt=0)


class Cooking(Shared, Sauce):
    """A group made of others."""

    GROUP: ClassVar[str] = ""


class Baking(Shared):
    """A group that inherits its fields."""

    GROUP: ClassVar[str] = "bake"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heat": -1}, "Parameter sauce_heat is -1: expected 0 or more."),
        ({"heat": 6}, "Parameter sauce_heat is 6: expected 5 or less."),
        ({"heat": 1.5}, "Parameter sauce_heat is 1.5: expected a whole number."),
        ({"heat": "1"}, "Parameter sauce_heat is '1': expected a whole number."),
        ({"heat": True}, "Parameter sauce_heat is True: expected a whole number."),
        ({"heat": None}, "Parameter sauce_heat is None: expected a whole number."),
        ({"share": 2}, "Parameter sauce_share is 2: expected 0 to 1."),
        ({"share": float("nan")}, "Parameter sauce_share is nan: expected 0 to 1."),
        ({"salt": 0.0}, "Parameter sauce_salt is 0: expected a number above 0."),
        ({"salt": float("inf")}, "Parameter sauce_salt is inf: expected a number below 10."),
        ({"kind": "blue"}, "Parameter sauce_kind is 'blue': expected one of red, green."),
        ({"mild": 1}, "Parameter sauce_mild is 1: expected true or false."),
        ({"parts": "salt"}, "Parameter sauce_parts is 'salt': expected a list."),
        ({"parts": ["salt", 3]}, "Parameter sauce_parts[1] is 3: expected a text."),
        ({"name": ""}, "Parameter dish is '': expected a text that is not empty."),
        ({"heart": 1}, "There is no setting 'heart': expected one of heat, share, salt, kind, mild"),
    ],
)
def test_a_wrong_value_is_one_sentence(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        Sauce(**values)
    assert str(error.value).startswith(message)
    assert len(error.value.problems) == 1


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        Sauce(heat=9, salt=-1)
    assert len(error.value.problems) == 2
    with pytest.raises(SettingsError) as error:
        Sauce(heat=4, parts=["red"])
    assert [problem.split()[1] for problem in error.value.problems] == ["sauce_mild", "sauce_parts"]
    assert str(error.value).startswith("2 things are wrong. (1) ")


def test_full_names_are_those_of_the_group_or_of_the_form() -> None:
    assert Sauce.full_name("heat") == "sauce_heat"
    assert Sauce.full_name("name") == "dish"
    assert Baking.full_name("rate") == "bake_rate"
    assert [Cooking.full_name(name) for name in ("heat", "rate", "name")] == ["sauce_heat", "rate", "dish"]


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Sauce().heat = 2  # type: ignore[misc]  # what is tested


def test_lists_of_two_settings_are_not_the_same_one() -> None:
    Sauce().parts.append("salt")
    assert Sauce().parts == []


@given(st.recursive(st.integers(-(2**53), 2**53) | st.text() | st.booleans(), lambda inner: st.lists(inner)))
def test_numbers_that_became_floats_on_the_way_are_read_as_they_were(value: object) -> None:
    def floats(each: object) -> object:
        if isinstance(each, list):
            return [floats(inner) for inner in each]
        return float(each) if type(each) is int else each

    read = with_whole_numbers(floats(value))
    assert json.dumps(read) == json.dumps(value)


def test_settings_survive_the_way_through_kubeflow() -> None:
    sauce = Sauce(heat=3, salt=2.5, parts=["a"])
    values = {name: float(v) if type(v) is int else v for name, v in sauce.model_dump().items()}
    assert Sauce(**values) == sauce
    assert type(Sauce(**values).heat) is int
    assert type(Sauce(salt=2).salt) is float


def test_a_number_of_tokens_that_was_decided_and_one_that_was_given_are_the_same_settings() -> None:
    assert ModelConfig().resolved(80) == ModelConfig(max_length=80)
    assert ModelConfig(max_length=24).resolved(80) == ModelConfig(max_length=24)
