"""The record of true fine-tunings: what estimates of subsets are calibrated with and judged by."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, find_output, produce
from gradsift.components.shared.errors import NotFoundError
from gradsift.components.shared.records.results import NonNegative, Record, ResultFile, Share

CALIBRATION = "calibration"
Start = Literal["base", "meta"]


class TrueRun(Record):
    """One fine-tuning on a subset and the target, measured on the target's validation split.

    Attributes:
        subset: the auxiliary tasks, in the suite's order.
        seed: of the training.
        val_loss: mean over rows of the cross-entropy in nats, of a written answer the mean over its tokens.
        val_accuracy: share of right answers; of a written answer, that greedy decoding would give it whole.
        train_rows: rows that were trained on, the target's included.
        optimizer_steps: steps taken.
        seconds: what the training took, without the start of its process.
    """

    subset: list[str]
    seed: NonNegativeInt
    val_loss: FiniteFloat
    val_accuracy: Share
    train_rows: NonNegativeInt
    optimizer_steps: NonNegativeInt
    seconds: NonNegative


class TrueLosses(ResultFile):
    """`true_losses.json`: true fine-tunings of one target by one recipe.

    Attributes:
        suite: name of the task suite.
        target: name of the target task.
        recipe: the training recipe, but for its seed.
        start: `base`, the pretrained weights are fine-tuned, as the product does; or `meta`, training goes on
            from theta*, around which the estimates expand.
        runs: the fine-tunings.
    """

    FILE: ClassVar[str] = "true_losses.json"

    suite: str
    target: str
    recipe: dict[str, Any]
    start: Start
    runs: Annotated[list[TrueRun], Field(min_length=1)]


class PlannedRuns(Record):
    """A group of fine-tunings that are to be done, or done, somewhere in a pipeline run.

    Attributes:
        number: tells the group from the others of the run.
        uri: where their `true_losses.json` is once they are done.
        inputs: everything that decides how they turn out, JSON values.
    """

    number: NonNegativeInt
    uri: str
    inputs: dict[str, Any]


def gather(planned: Sequence[PlannedRuns], root_uri: str) -> StepOutput | None:
    """Return an output with one `true_losses.json` of all planned runs, or None where none were planned.

    Raises:
        NotFoundError: planned runs are not done.
    """
    if not planned:
        return None
    parts = [_finished(each) for each in planned]

    def work(folder: Path) -> dict[str, Any]:
        losses = [TrueLosses.read(fetch(part, [TrueLosses.FILE])) for part in parts]
        runs = [run for each in losses for run in each.runs]
        losses[0].model_copy(update={"runs": runs}).write(folder)
        return {"runs": len(runs)}

    return produce(root_uri, CALIBRATION, {"parts": [part.digest for part in parts]}, work)


def _finished(planned: PlannedRuns) -> StepOutput:
    output = find_output(planned.uri)
    if output is None:
        raise NotFoundError(f"There is no finished calibration run at {planned.uri}: run the pipeline again.")
    return output
