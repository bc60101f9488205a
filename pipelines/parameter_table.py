"""Writes PARAMETERS.md: every parameter of the pipeline with its type, default and description, step by step."""

import json
from collections.abc import Iterator
from pathlib import Path

from gradsift.pipelines.pipeline import gradsift_pipeline

FILE = Path(__file__).parent / "PARAMETERS.md"
STEPS = {
    "prepare": "Data preparation",
    "model": "Model",
    "train": "Training, all of it",
    "meta": "Meta-training",
    "extract": "Gradient extraction",
    "calibrate": "Calibration",
    "estimate": "Estimation and selection",
    "fine_tune": "Final fine-tuning",
    "evaluate": "Evaluation",
    "promote": "Promotion in the MLflow registry",
    "resources": "Resources",
    "platform": "Kubernetes",
}
"""Prefix of the parameters' names -> heading; what has no prefix comes first."""
TYPES = {
    "String": "text",
    "Integer": "whole number",
    "Float": "number",
    "Boolean": "true or false",
    "List": "list",
    "Dict": "mapping",
}


def parameter_table() -> str:
    """Return the text of PARAMETERS.md."""
    parts = ["# Parameters of the pipeline\n\nWritten by `make compile` from `pipeline.py`.\n"]
    rows = list(_rows())
    general = [row for prefix, row in rows if prefix is None]
    sections = [("General", general)]
    sections += [(title, [row for found, row in rows if found == step]) for step, title in STEPS.items()]
    for title, lines in sections:
        table = "\n".join(lines)
        parts.append(
            f"## {title}\n\n| parameter | type | default | what it is |\n|---|---|---|---|\n{table}\n"
        )
    return "\n".join(parts)


def _rows() -> Iterator[tuple[str | None, str]]:
    """Yield each parameter's prefix and its row."""
    for name, definition in gradsift_pipeline.component_spec.inputs.items():
        prefix = next((each for each in STEPS if name.startswith(f"{each}_")), None)
        description = " ".join(definition.description.split()).replace("|", "\\|")
        default = json.dumps(definition.default)
        yield prefix, f"| `{name}` | {TYPES[definition.type]} | `{default}` | {description} |"


if __name__ == "__main__":
    FILE.write_text(parameter_table(), encoding="utf-8")
