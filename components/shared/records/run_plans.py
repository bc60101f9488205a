"""Plans of fine-tuning runs: one step writes them, and others read them by short texts.

A plan is a step output at `<root>/fine_tuning_plans/<key>/`. A task of the pipeline gives the next ones a text for
each group, its plan's key and its number, as all that tasks give each other counts for the size of the workflow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from gradsift.components.shared.artifacts.step_output import fetch, find_output, produce
from gradsift.components.shared.errors import NotFoundError
from gradsift.components.shared.records.fine_tuning_runs import STEP, RunGroup
from gradsift.components.shared.records.results import ResultFile
from gradsift.components.shared.storage.addresses import join_uri

PLANS = "fine_tuning_plans"


class RunPlan(ResultFile):
    """`plan.json`: groups of fine-tuning runs.

    Attributes:
        groups: the groups, at the places that their numbers name.
    """

    FILE: ClassVar[str] = "plan.json"

    groups: list[RunGroup]


def write_groups(groups: Sequence[RunGroup], root_uri: str) -> list[str]:
    """Write a plan below the run root and return a text for each of its groups."""
    plan = RunPlan(groups=list(groups))

    def work(folder: Path) -> dict[str, Any]:
        plan.write(folder)
        return {"runs": sum(len(group.runs) for group in groups)}

    output = produce(root_uri, STEP, plan.model_dump(mode="json"), work, PLANS)
    key = output.uri.rpartition("/")[2]
    return [f"{key}/{group.number}" for group in groups]


def read_group(text: str, root_uri: str) -> RunGroup:
    """Return the group that one of the texts of `write_groups` names.

    Raises:
        NotFoundError: there is no such plan.
    """
    key, _, number = text.partition("/")
    uri = join_uri(root_uri, PLANS, key)
    output = find_output(uri)
    if output is None:
        raise NotFoundError(f"There is no plan of fine-tuning runs at {uri}: run the pipeline again.")
    return RunPlan.read(fetch(output)).groups[int(number)]


def read_groups(texts: Sequence[str], root_uri: str) -> list[RunGroup]:
    """Return the groups that texts of `write_groups` name (see `read_group`)."""
    return [read_group(text, root_uri) for text in texts]
