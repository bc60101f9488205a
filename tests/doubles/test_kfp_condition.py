"""The conditions of `dsl.If`: every form that kfp writes, and the refusal of all others."""

from typing import Any

import pytest
from doubles.kfp_condition import evaluate
from doubles.kfp_error import DriverError

TEXT = "inputs.parameter_values['pipelinechannel--text']"
NUMBER = "inputs.parameter_values['pipelinechannel--number']"
FLAG = "inputs.parameter_values['pipelinechannel--flag']"
INPUTS: dict[str, Any] = {
    "pipelinechannel--text": "changed",
    "pipelinechannel--number": 2,
    "pipelinechannel--flag": True,
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (f"{TEXT} == 'changed'", True),
        (f"{TEXT} != 'changed'", False),
        (f"{TEXT} != ''", True),
        (f"int({NUMBER}) > 1", True),
        (f"int({NUMBER}) >= 3", False),
        (f"{NUMBER} < 2.5", True),
        (f"{NUMBER} <= double(int({NUMBER}))", True),
        (f"int({NUMBER}) == -2", False),
        (f"{FLAG} == true", True),
        (f"{FLAG} == false", False),
        (f"!(int({NUMBER}) > 1)", False),
        (f"!(int({NUMBER}) > 2) && {FLAG} == true", True),
        (f"!(int({NUMBER}) > 1) && {FLAG} == true", False),
        (f"{FLAG} == true && !({TEXT} == 'changed')", False),
        ("'a (b) && c' == 'a (b) && c'", True),
    ],
)
def test_a_condition_of_kfp_is_evaluated(condition: str, expected: bool) -> None:
    assert evaluate(condition, INPUTS) is expected


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (f"{TEXT} == 'it's'", "none of the forms"),
        (f"{TEXT} == 'a' || {FLAG} == true", "none of the forms"),
        (f"{TEXT}.startsWith('a')", "none of the forms"),
        (f"{FLAG} == true {FLAG}", "unexpected"),
        (f"{TEXT} == 2", "different types"),
        (f"{FLAG} == 1", "different types"),
        (f"int({TEXT}) == 2", "is no number"),
        (f"{TEXT} && 'a'", "is no comparison"),
        ("inputs.parameter_values['other'] == 'a'", "no input `other`"),
        (f"{TEXT} ==", "ends too early"),
        (f"!({FLAG} == true", "ends too early"),
    ],
)
def test_another_condition_is_refused(condition: str, reason: str) -> None:
    with pytest.raises(DriverError, match=reason):
        evaluate(condition, INPUTS)
