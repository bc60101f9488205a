"""How a run ended, in Markdown: what was selected, what that bought, and where report and model are."""

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.documents.texts import markdown_text
from gradsift.components.shared.parameters.promotion import PromotionConfig
from gradsift.components.shared.records.evaluation_results import Evaluation

REPORT = "report.html"


def summary_of(evaluation: StepOutput, model: StepOutput, decision: str | None) -> str:
    """Return the summary of a run that trained a model.

    Args:
        evaluation: the evaluation step's output.
        model: the final model.
        decision: what became of the registered model, in words; None where none was asked for.
    """
    found = Evaluation.read(fetch(evaluation, [Evaluation.FILE]))
    subset = found.chosen.subset
    root, *report = evaluation.uri.rsplit("/", 2)
    facts = {
        "Selected": markdown_text(", ".join(subset)) if subset else "no source",
        "Gain": markdown_text(found.verdict.text),
        "Run root": f"`{root}`",
        "Report": f"artifact `report` of the task `evaluate`; in the run root `{'/'.join([*report, REPORT])}`",
        "Model": f"in the run root `{'/'.join(model.uri.rsplit('/', 2)[1:])}`",
        "Registered": "no, as `promote_model_name` is empty" if decision is None else markdown_text(decision),
    }
    lines = [f"- **{name}**: {text}" for name, text in facts.items()]
    return "\n".join([f"# Fine-tuned for {markdown_text(found.target)}", "", *lines, ""])


def unchanged(config: PromotionConfig) -> str:
    """Return the summary of a run that found nothing new."""
    return (
        "# Nothing new\n\nData and settings are those of a judged version of the registered model "
        f"{markdown_text(config.model_name)}: nothing was trained.\n"
    )
