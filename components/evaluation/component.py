"""The KFP interface of evaluation."""

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE, component


@component(TRAIN_IMAGE)
def evaluate(
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    inputs: str,
    settings: dict,
    comparisons: list,
) -> str:
    """Measure on held-out data what the selection bought, and write the report.

    Args:
        evaluation: pointer to the evaluation.
        metrics: held-out metrics of the fine-tuned model and its gain over each comparison.
        confusion: its confusion matrix; empty where answers are written.
        report: the whole run on one page.
        inputs: key of the run's outputs so far.
        settings: what preflight resolved for this step.
        comparisons: the texts that `fine_tune_target` returned, whose runs are finished.

    Returns:
        The key of the run's outputs so far.
    """
    from gradsift.components.evaluation import entry_point

    return entry_point.evaluate(evaluation, metrics, confusion, report, inputs, settings, comparisons)
