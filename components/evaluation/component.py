"""The KFP interface of evaluation."""

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def evaluate(
    data: dsl.Input[dsl.Dataset],
    selection: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    settings: dict,
    comparisons: list,
) -> None:
    """Measure on held-out data what the selection bought, and write the report.

    Args:
        data: pointer to the prepared data.
        selection: pointer to the estimates and the selection.
        model: pointer to the final model.
        evaluation: pointer to the evaluation.
        metrics: held-out metrics of the fine-tuned model and its gain over each comparison.
        confusion: its confusion matrix; empty where answers are written.
        report: the whole run on one page.
        settings: what preflight resolved for this step.
        comparisons: the texts that `fine_tune_target` returned, whose runs are finished.
    """
    from gradsift.components.evaluation import entry_point

    entry_point.evaluate(
        data, selection, model, evaluation, metrics, confusion, report, settings, comparisons
    )
