"""What the report says of each source's health: a sentence for each finding, and the figures behind it."""

from typing import Any

from gradsift.components.evaluation.report.report_words import nats
from gradsift.components.shared.records.selection_results import (
    Confirmation,
    HealthFinding,
    Selection,
    TaskHealth,
)


def health_of(selection: Selection) -> dict[str, Any]:
    """Return the template's values: the findings, and all sources with those that have findings first."""
    rows = sorted(selection.health, key=lambda health: (not health.findings, -(health.adapted or 0)))
    return {
        "health": rows,
        "findings": [
            (health.task, [*_sentences(health), *_true_losses(health.task, selection.confirmation)])
            for health in rows
            if health.findings
        ],
        "with_labels": any(health.adapted is not None for health in rows),
    }


def _sentences(health: TaskHealth) -> list[str]:
    return [_sentence(finding, health) for finding in health.findings]


def _sentence(finding: HealthFinding, health: TaskHealth) -> str:
    match finding:
        case "random_labels":
            return (
                "To this model its labels look random: after training on half of its rows, what it says of the "
                f"others has a correlation of {_with_error(health.learned, health.learned_error)} with their "
                "labels. They may be random, or too hard for the model."
            )
        case "contradicted_labels":
            return (
                "Its label names contradict its texts: before any training, what the model says of its rows by the "
                f"names has a correlation of {_with_error(health.named, health.named_error)} with their labels. "
                "They may be flipped or misnamed."
            )
        case "duplicate":
            return f"Its gradients are nearly those of {health.duplicate_of}: it may be a copy."
        case "opposed":
            return f"It pulls against the other tasks, {health.against} most of all."


def _true_losses(task: str, confirmation: Confirmation | None) -> list[str]:
    """Return a sentence on the subsets that were fine-tuned on: those with the source beside those without it."""
    runs = [] if confirmation is None else confirmation.runs
    inside, outside = (
        [run.true_loss for run in runs if (task in run.subset) == is_in] for is_in in (True, False)
    )
    if not inside or not outside:
        return []
    return [
        f"Of the subsets that were fine-tuned on, the lowest true loss with it is {nats(min(inside))} "
        f"({len(inside)} of {len(runs)} subsets), and {nats(min(outside))} without it."
    ]


def _with_error(value: float | None, error: float | None) -> str:
    assert value is not None
    assert error is not None
    return f"{value:.2f} (± {error:.2f})"
