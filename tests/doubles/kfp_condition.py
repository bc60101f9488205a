"""Evaluate the conditions that kfp compiles for `dsl.If`, `dsl.Elif` and `dsl.Else`, as KFP's driver does.

The driver evaluates them with CEL. kfp writes comparisons of task inputs and constants only, joined by `&&` and
negated by `!( )`; everything else is refused.
"""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from doubles.kfp_error import DriverError

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
TOKEN = re.compile(
    r"""\s*(?:
        inputs\.parameter_values\['(?P<input>[^'\\]+)'\]
        | '(?P<text>[^'\\]*)'
        | (?P<number>-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
        | (?P<word>true|false|int|double)\b
        | (?P<sign>&&|==|!=|<=|>=|[<>!()])
    )\s*""",
    re.VERBOSE,
)


def evaluate(condition: str, inputs: Mapping[str, Any]) -> bool:
    """Return whether a task with this condition runs.

    Args:
        condition: the task's `triggerPolicy.condition`.
        inputs: the task's input parameters, by name.

    Raises:
        DriverError: the condition has another form than kfp's, an input is missing, or two types do not compare.
    """
    return _Condition(condition, inputs).value()


class _Condition:
    """One condition, read from left to right."""

    def __init__(self, condition: str, inputs: Mapping[str, Any]) -> None:
        self._condition = condition
        self._inputs = inputs
        self._tokens = self._split()

    def value(self) -> bool:
        result = self._conjunction()
        if self._tokens:
            raise self._error(f"`{self._tokens[0][1]}` is unexpected")
        return result

    def _split(self) -> list[tuple[str, str]]:
        tokens, at = [], 0
        while at < len(self._condition):
            match = TOKEN.match(self._condition, at)
            if match is None:
                raise self._error(f"`{self._condition[at:]}` is none of the forms that kfp writes")
            kind = str(match.lastgroup)
            tokens.append((kind, match[kind]))
            at = match.end()
        return tokens

    def _conjunction(self) -> bool:
        result = self._term()
        while self._tokens and self._tokens[0] == ("sign", "&&"):
            self._next()
            result = self._term() and result
        return result

    def _term(self) -> bool:
        if self._tokens and self._tokens[0] == ("sign", "!"):
            self._next()
            self._expect("(")
            result = self._conjunction()
            self._expect(")")
            return not result
        return self._comparison()

    def _comparison(self) -> bool:
        left = self._operand()
        sign = self._next()[1]
        if sign not in COMPARISONS:
            raise self._error(f"`{sign}` is no comparison")
        right = self._operand()
        if _kind(left) != _kind(right):
            raise self._error(f"{left!r} and {right!r} have different types")
        return COMPARISONS[sign](left, right)

    def _operand(self) -> Any:
        kind, text = self._next()
        if kind == "input":
            if text not in self._inputs:
                raise self._error(f"the task has no input `{text}`")
            return self._inputs[text]
        if kind == "text":
            return text
        if kind == "number":
            return float(text)
        if text in ("true", "false"):
            return text == "true"
        if text in ("int", "double"):
            return self._conversion(int if text == "int" else float)
        raise self._error(f"`{text}` is no operand")

    def _conversion(self, to: Callable[[Any], float]) -> float:
        self._expect("(")
        operand = self._operand()
        self._expect(")")
        if _kind(operand) != "number":
            raise self._error(f"{operand!r} is no number")
        return to(operand)

    def _expect(self, sign: str) -> None:
        if (found := self._next()[1]) != sign:
            raise self._error(f"`{sign}` was expected, not `{found}`")

    def _next(self) -> tuple[str, str]:
        if not self._tokens:
            raise self._error("it ends too early")
        return self._tokens.pop(0)

    def _error(self, reason: str) -> DriverError:
        return DriverError(f"The condition `{self._condition}` cannot be evaluated: {reason}.")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__
