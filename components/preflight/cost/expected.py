"""The plan of a run's cost in preflight's report, from what can be known before data are prepared."""

from gradsift.components.preflight.cost.hardware import Hardware
from gradsift.components.preflight.cost.model_size import model_outline, size_of
from gradsift.components.preflight.cost.plan import plan_cost
from gradsift.components.preflight.cost.row_lengths import READ_ROWS, RowLengths, mean_length
from gradsift.components.preflight.cost.table import sentences, table
from gradsift.components.shared.data.suites.task_suite import listed_tasks, read_target
from gradsift.components.shared.documents.texts import markdown_text
from gradsift.components.shared.errors import GradsiftError
from gradsift.components.shared.parameters.model import MAX_AUTO_LENGTH
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings

UNKNOWN = "The suite does not say how many rows its tasks have: `gradsift plan` reads them.\n"
CAPTION = (
    "Rows are those of the suite's manifest; all are taken to be as long as the target's validation rows."
)


def expected_cost(settings: PipelineSettings) -> str:
    """Return what a run will cost, as Markdown; it says so where that is not known."""
    try:
        return _expected_cost(settings)
    except GradsiftError as error:
        return f"Not known: {markdown_text(str(error))}\n"


def _expected_cost(settings: PipelineSettings) -> str:
    index = listed_tasks(settings.data, settings.model.max_length or MAX_AUTO_LENGTH)
    if index is None:
        return UNKNOWN
    outlined = model_outline(settings.model, index)
    rows = read_target(settings.data, "val").splits["val"][:READ_ROWS]
    records = [row._asdict() for row in rows]
    columns = {name: [record[name] for record in records] for name in records[0]}
    lengths = RowLengths.constant(index, mean_length([columns], index.target, outlined))
    plan = plan_cost(settings, index, lengths, size_of(outlined, settings.model.train_embeddings))
    hardware = Hardware(settings.resources)
    titles, *lines = (f"| {' | '.join(line)} |\n" for line in table(plan, hardware))
    rule = f"|{'---|' * titles.count(' | ')}---|\n"
    notes = " ".join([*sentences(plan, hardware), CAPTION])
    return f"{titles}{rule}{''.join(lines)}\n{notes}\n"
