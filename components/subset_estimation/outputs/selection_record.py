"""`selection.json`: the choice, its alternatives, and what explains it."""

from typing import Any

from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.selection_results import Calibration, Selection
from gradsift.components.subset_estimation.explanations.explanations import Explanations
from gradsift.components.subset_estimation.explanations.reason import reason_of
from gradsift.components.subset_estimation.selection.choices import Choices
from gradsift.components.subset_estimation.selection.gaps import EstimatedGaps
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray

COMPARED = ("all", "target_only", "random")


def selection_record(
    config: SubsetEstimationConfig,
    suite: str,
    ledger: EstimateLedger,
    choices: Choices,
    explanations: Explanations,
    calibration: Calibration | None,
    finalists: dict[str, BoolArray],
    seconds: float,
    gaps: EstimatedGaps | None = None,
) -> Selection:
    """Return the record of the configured method's choice."""
    chosen = choices.methods[config.method]
    gap_limit = gaps.limit if gaps is not None and gaps.limit else None
    return Selection.model_validate(
        {
            "suite": suite,
            "target": ledger.estimator.statistics.target,
            "method": config.method,
            "estimator": config.estimator,
            "ridge": config.ridge,
            "ridge_scaling": config.ridge_scaling,
            "auxiliary_tasks": ledger.tasks,
            "selected": ledger.names(chosen),
            "estimated_loss": ledger.known(chosen).loss,
            "standard_error": ledger.known(chosen).standard_error,
            "reason": reason_of(config, ledger, choices, calibration),
            "path": _path(ledger, choices) if config.method == "forward_stepwise" else [],
            "task_scores": _scores(ledger, choices, chosen),
            "methods": _results(ledger, choices.methods, gaps),
            "gap_limit": gap_limit,
            "comparisons": {
                "selected": ledger.names(chosen),
                **{name: ledger.names(choices.methods[name]) for name in COMPARED},
            },
            "subsets_estimated": len(ledger),
            "seconds": seconds,
            "calibrated": calibration is not None and calibration.slope > 0,
            "calibration": calibration,
            "members": ledger.estimator.members,
            "ties": _results(ledger, choices.ties, gaps),
            "finalists": [
                result
                for round_name, masks in finalists.items()
                for mask in masks
                for result in _results(ledger, {round_name: mask}, gaps)
            ],
            "synergy": explanations.synergy,
            "task_map": explanations.task_map,
            "surrogates": explanations.surrogates,
            "health": explanations.health,
        }
    )


def _results(
    ledger: EstimateLedger, subsets: dict[str, BoolArray], gaps: EstimatedGaps | None
) -> list[dict[str, Any]]:
    return [
        {
            "method": name,
            **_estimated(ledger, mask),
            "estimated_gap": None if gaps is None else float(gaps.of(mask[None])[0]),
        }
        for name, mask in subsets.items()
    ]


def _estimated(ledger: EstimateLedger, mask: BoolArray) -> dict[str, Any]:
    estimate = ledger.known(mask)
    return {
        "subset": ledger.names(mask),
        "estimated_loss": estimate.loss,
        "standard_error": estimate.standard_error,
    }


def _path(ledger: EstimateLedger, choices: Choices) -> list[dict[str, Any]]:
    return [
        {
            "action": step.action,
            "task": None if step.added is None else ledger.tasks[step.added],
            "removed": None if step.removed is None else ledger.tasks[step.removed],
            **_estimated(ledger, step.mask),
        }
        for step in choices.path
    ]


def _scores(ledger: EstimateLedger, choices: Choices, chosen: BoolArray) -> list[dict[str, Any]]:
    shares = [None] * len(chosen) if choices.shares is None else choices.shares
    columns = (ledger.tasks, choices.scores.loss, choices.scores.standard_error, chosen, shares)
    return [
        {"task": task, "score": score, "standard_error": error, "selected": bool(selected), "share": share}
        for task, score, error, selected, share in zip(*columns, strict=True)
    ]
