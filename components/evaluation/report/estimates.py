"""Estimated and true losses of every fine-tuning run that the report knows of."""

from gradsift.components.evaluation.report.report_words import named, nats
from gradsift.components.evaluation.report.scatter import Point
from gradsift.components.shared.metrics.lds import ComparedRun
from gradsift.components.shared.records.evaluation_results import Evaluation
from gradsift.components.shared.records.selection_results import CalibrationRun, Selection


def compared_runs(selection: Selection, evaluation: Evaluation) -> list[ComparedRun]:
    """Return the runs before the choice, each with the estimate that the others give, then the compared models.

    A compared model whose subset ran before the choice is left out: its estimate has seen that run.
    """
    before = [ComparedRun(run.subset, run.true_loss, run.calibrated_loss) for run in _runs(selection)]
    known = {frozenset(run.subset) for run in before}
    after = [
        ComparedRun(model.subset, model.true_val_loss, model.estimated_loss)
        for model in evaluation.models
        if frozenset(model.subset) not in known
    ]
    return before + after


def points_of(selection: Selection, evaluation: Evaluation) -> list[Point]:
    """Return a point with a name for each compared model, then one for each run before the choice."""
    models = [
        Point(
            named(model.name),
            model.estimated_loss,
            model.estimated_standard_error,
            model.true_val_loss,
            model.true_val_loss_sd,
            strong=model.name == "selected",
        )
        for model in evaluation.models
    ]
    runs = [
        Point("", run.calibrated_loss, 0.0, run.true_loss, 0.0, tooltip=_run_words(run))
        for run in _runs(selection)
    ]
    return models + runs


def _runs(selection: Selection) -> list[CalibrationRun]:
    return selection.calibration.runs if selection.calibration else []


def _run_words(run: CalibrationRun) -> str:
    subset = ", ".join(run.subset) or "target only"
    return f"{subset}: estimated {nats(run.calibrated_loss)}, true {nats(run.true_loss)}, seed {run.seed}"
