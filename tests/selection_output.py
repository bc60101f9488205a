"""What the estimation step leaves of a selection, without the estimating."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.records.selection_results import Selection


def produce_selection(
    root: Path, target: str, subsets: Mapping[str, list[str]], estimates: Mapping[str, float]
) -> StepOutput:
    """Write a selection by forward stepwise search.

    Args:
        root: the run root.
        target: the target task.
        subsets: by comparison, its auxiliary tasks; `selected` and `all` are among them.
        estimates: by comparison, its estimated loss.
    """

    def result(name: str) -> dict[str, Any]:
        method = "forward_stepwise" if name == "selected" else name
        return {
            "method": method,
            "subset": subsets[name],
            "estimated_loss": estimates[name],
            "standard_error": 0.01,
        }

    def score(task: str) -> dict[str, Any]:
        return {
            "task": task,
            "score": 0.1,
            "standard_error": 0.01,
            "selected": task in subsets["selected"],
        }

    content = {
        "suite": "demo",
        "target": target,
        "method": "forward_stepwise",
        "estimator": "gauss_newton",
        "ridge": 0.1,
        "ridge_scaling": "per_row",
        "auxiliary_tasks": subsets["all"],
        "selected": subsets["selected"],
        "estimated_loss": estimates["selected"],
        "standard_error": 0.01,
        "reason": "Because.",
        "path": [],
        "task_scores": [score(task) for task in subsets["all"]],
        "methods": [result(name) for name in subsets],
        "comparisons": subsets,
        "subsets_estimated": 8,
        "seconds": 0.1,
    }

    def work(folder: Path) -> dict[str, Any]:
        Selection.model_validate(content).write(folder)
        return {}

    return produce(str(root), "subset_estimation", {}, work)
