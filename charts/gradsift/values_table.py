"""Puts the table of values into README.md, from the comments of values.yaml."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent
START, END = "<!-- values: start -->\n", "<!-- values: end -->"


def with_values_table(readme: str, values: str) -> str:
    """Return the README's text with its table of values replaced by that of the text of a values.yaml."""
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    rows = "\n".join(
        f"| `{name}` | `{json.dumps(default)}` | {comment} |"
        for name, default, comment in described_values(values)
    )
    return f"{before}{START}| value | default | what it is |\n|---|---|---|\n{rows}\n{END}{after}"


def described_values(values: str) -> Iterator[tuple[str, Any, str]]:
    """Yield dotted name, default and description of every key under a comment that starts with "# --"."""
    defaults = yaml.safe_load(values)
    path: list[str] = []
    comment: list[str] = []
    for line in values.splitlines():
        if text := re.fullmatch(r" *# (?P<mark>-- )?(?P<text>.*)", line):
            if text["mark"] or comment:
                comment.append(text["text"])
        elif key := re.match(r"(?P<indent> *)(?P<name>\w+):", line):
            path = [*path[: len(key["indent"]) // 2], key["name"]]
            if comment:
                yield ".".join(path), _value(defaults, path), " ".join(comment)
            comment = []


def _value(values: Any, path: list[str]) -> Any:
    for key in path:
        values = values[key]
    return values


if __name__ == "__main__":
    readme = CHART / "README.md"
    readme.write_text(with_values_table(readme.read_text(), (CHART / "values.yaml").read_text()))
