"""What a run's schedule learned, as tags of the version that it registers; the next run may begin with it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError, TrackingOutageError
from gradsift.components.shared.model_registry.registry import CHAMPION, DATA_DIGEST, open_registry
from gradsift.components.shared.process.outages import wait_out
from gradsift.components.shared.records.results import Record, invalid_file
from gradsift.components.shared.records.sampling_schedule import Cosine, EarlierSchedule, SamplingSchedule

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SCHEDULE, START = "gradsift.schedule", "gradsift.schedule_start"
"""Tags of a version: what its schedule learned, and what it began with."""
MAX_CHARACTERS = 4500
"""Bound of a schedule as JSON: older servers of MLflow take 5000 in a tag, and the origin needs some."""
DECIMALS = 4
R = TypeVar("R", bound=Record)

logger = logging.getLogger(__name__)


class LearnedSchedule(Record):
    """What a run's schedule had learned when its last round began.

    Attributes:
        target: the target task.
        cosines: by source, the mean cosine of its gradient and the target's, the newest periods first.
    """

    target: str
    cosines: dict[str, Cosine]


def schedule_tags(meta_model: StepOutput) -> dict[str, str]:
    """Return the tags of a version whose meta-training had the sampler `l2s`; none of another."""
    if meta_model.metadata.get("sampler") != "l2s":
        return {}
    schedule = SamplingSchedule.read(fetch(meta_model, [SamplingSchedule.FILE]))
    tags = {SCHEDULE: _learned(schedule).model_dump_json()}
    if schedule.earlier is not None:
        tags[START] = schedule.earlier.model_dump_json()
    return tags


def find_earlier_schedule(name: str, data: StepOutput, root_uri: str) -> StepOutput | None:
    """Return the schedule that meta-training begins with, that of the champion, as an `EarlierSchedule`.

    It has the sources of these data that the champion's run had, too, matched by their names. Where the champion
    was trained on these very data, meta-training begins with what the champion's began with: no data count twice,
    and a run that is repeated trains the same model. The log says where the schedule is from, or why there is none.

    Args:
        name: the registered model.
        data: the prepared data.
        root_uri: the run root.

    Returns:
        None where there is no champion, or its run had no schedule for this target and some of these sources.

    Raises:
        InputError: there is no MLflow server, or the champion's tag is not a schedule.
        TrackingError: MLflow refuses, or does not answer for longer than outages are waited out.
    """
    champion = wait_out(TrackingOutageError, lambda: _champion(name, root_uri))
    earlier, reason = _begin_with(champion, name, data)
    if earlier is None:
        logger.warning("Meta-training begins without an earlier schedule: %s.", reason)
        return None
    logger.warning("Meta-training begins with the schedule of %s: %s.", earlier.origin, reason)
    return _kept(earlier, root_uri)


def _begin_with(
    champion: "ModelVersion | None", name: str, data: StepOutput
) -> tuple[EarlierSchedule | None, str]:
    """Return the earlier schedule, if there is one, and the reason in words."""
    if champion is None:
        return None, f"{name} has no champion yet"
    who = f"version {champion.version} of {name}"
    if champion.tags.get(DATA_DIGEST) == data.digest:
        if START not in champion.tags:
            return None, f"so did that of {who}, the champion, on the same data"
        return _read(
            EarlierSchedule, START, champion, name
        ), f"so did that of {who}, the champion, on the same data"
    if SCHEDULE not in champion.tags:
        return None, f"{who}, the champion, has none"
    learned, prepared = _read(LearnedSchedule, SCHEDULE, champion, name), PreparedData(fetch(data))
    if learned.target != prepared.target:
        return None, f"that of {who}, the champion, is for the target {learned.target}"
    sources = prepared.auxiliary_tasks
    known = {source: learned.cosines[source] for source in sources if source in learned.cosines}
    if not known:
        return None, f"that of {who}, the champion, has none of these sources"
    return EarlierSchedule(origin=who, cosines=known), f"it has {len(known)} of the {len(sources)} sources"


def _learned(schedule: SamplingSchedule) -> LearnedSchedule:
    """Return what the schedule learned, without the oldest periods where a tag has no room for all."""
    means = schedule.mean_cosines
    newest_first = sorted(means, key=lambda source: schedule.periods.get(source, ""), reverse=True)
    learned = LearnedSchedule(target=schedule.target, cosines={})
    for source in newest_first:
        cosines = {**learned.cosines, source: round(means[source], DECIMALS)}
        longer = LearnedSchedule(target=schedule.target, cosines=cosines)
        if len(longer.model_dump_json()) > MAX_CHARACTERS:
            break
        learned = longer
    return learned


def _champion(name: str, root_uri: str) -> "ModelVersion | None":
    with open_registry(root_uri, name) as registry:
        return registry.holders().get(CHAMPION)


def _read(kind: type[R], tag: str, champion: "ModelVersion", name: str) -> R:
    try:
        return kind.model_validate_json(champion.tags[tag])
    except ValidationError as error:
        where = f"The tag {tag} of version {champion.version} of the registered model {name!r}, its champion,"
        reason = str(invalid_file(where, error)).rstrip(".")
        raise InputError(
            f"{reason}; delete the tag to begin without a schedule, or give the alias champion to another version."
        ) from error


def _kept(earlier: EarlierSchedule, root_uri: str) -> StepOutput:
    """Write the schedule below the run root: a later champion does not change what this run begins with."""

    def work(folder: Path) -> dict[str, Any]:
        earlier.write(folder)
        return {"sources": len(earlier.cosines)}

    inputs = {"earlier_schedule": earlier.model_dump()}
    return produce(root_uri, "data_preparation", inputs, work, place="earlier_schedules")
