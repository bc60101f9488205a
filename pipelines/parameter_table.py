"""Writes PARAMETERS.md: every parameter of the pipeline with its type, default and description, group by group."""

import json
from pathlib import Path

from gradsift.components.shared.parameters.pipeline_settings import Parameter, known_parameters

FILE = Path(__file__).parent / "PARAMETERS.md"
INTRODUCTION = """\
# Parameters of the pipeline

Written by `make compile` from `components/shared/parameters`. The command line, schedules and parameter files take
every parameter by its name. In Kubeflow's UI the ones in bold are fields of the form; all others go into the field
`settings`, a mapping such as `{"meta_epochs": 1}`.
"""
TITLES = {
    "": "General",
    "prepare": "Data preparation",
    "model": "Model",
    "train": "Training, all of it",
    "meta": "Meta-training",
    "extract": "Gradient extraction",
    "calibrate": "Calibration",
    "confirm": "Confirmation of the choice",
    "estimate": "Estimation and selection",
    "fine_tune": "Final fine-tuning",
    "fairness": "Groups and a limit on their covariance",
    "evaluate": "Evaluation",
    "promote": "Promotion in the MLflow registry",
    "resources": "Resources",
    "platform": "Kubernetes",
}
"""Prefix of a group -> heading, in order."""
KINDS: dict[type, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    list: "list",
    dict: "mapping",
}


def parameter_table() -> str:
    """Return the text of PARAMETERS.md."""
    parts = [INTRODUCTION]
    for prefix, title in TITLES.items():
        rows = "\n".join(_row(each) for each in known_parameters().values() if prefix == each.group.GROUP)
        parts.append(
            f"## {title}\n\n| parameter | type | default | what it is |\n|---|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


def _row(parameter: Parameter) -> str:
    kind = " or ".join(f"`{each}`" for each in parameter.choices) or KINDS[parameter.kind]
    name = f"**`{parameter.name}`**" if parameter.in_form else f"`{parameter.name}`"
    description = parameter.description.replace("|", "\\|")
    return f"| {name} | {kind} | `{json.dumps(parameter.default)}` | {description} |"


if __name__ == "__main__":
    FILE.write_text(parameter_table(), encoding="utf-8")
