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
) -> None:
    """Measure on held-out data what the selection bought, and write the report.

    Args:
        data: pointer to the prepared data.
        selection: pointer to the estimates and the selection.
        model: pointer to the fine-tuned model.
        evaluation: pointer to the evaluation.
        metrics: held-out metrics of the fine-tuned model and its gain over each comparison.
        confusion: its confusion matrix; empty where answers are written.
        report: the whole run on one page.
        settings: what preflight resolved for this step.
    """
    from gradsift.components.evaluation import step
    from gradsift.components.shared.evaluation_results import Evaluation
    from gradsift.components.shared.parameters.evaluation import EvaluationConfig
    from gradsift.components.shared.step_output import copy_file, fetch, read_pointer
    from gradsift.components.shared.step_run import run_step
    from gradsift.components.shared.training_launcher import launcher_on

    config = EvaluationConfig(**settings["config"])
    output = run_step(
        step.STEP,
        settings,
        config.model_dump(),
        lambda tracker: step.evaluate(
            config,
            read_pointer(data),
            read_pointer(selection),
            read_pointer(model),
            settings["output_uri"],
            tracker,
            launcher_on(settings.get("node_resources", {})),
        ),
        evaluation,
    )
    for name, value in output.metadata.items():
        if isinstance(value, float):
            metrics.log_metric(name, value)
    found = Evaluation.read(fetch(output, [Evaluation.FILE]))
    if found.confusion is not None:
        confusion.log_confusion_matrix(found.confusion.labels, found.confusion.matrix)
    copy_file(output, step.REPORT, report)
