"""The step: register the fine-tuned model, and let it take the champion's place if it is good enough."""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from gradsift.components.promotion.comparison import compare
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.credentials import redacted
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError, TrackingError, TrackingOutageError
from gradsift.components.shared.metrics.scores import Scores, scores_of
from gradsift.components.shared.model_registry.freshness import FINGERPRINT, fingerprint
from gradsift.components.shared.model_registry.registry import (
    CANDIDATE,
    CHAMPION,
    DATA_DIGEST,
    MODEL_DIGEST,
    ModelRegistry,
    open_registry,
)
from gradsift.components.shared.models.model_answers import held_out_answers
from gradsift.components.shared.models.model_loading import open_model
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.models.threads import use_given_cores
from gradsift.components.shared.parameters.promotion import PromotionConfig
from gradsift.components.shared.parameters.training import Precision
from gradsift.components.shared.process.outages import wait_out
from gradsift.components.shared.tracking.event_log import run_id
from gradsift.components.shared.tracking.mlflow_sync import sync
from gradsift.components.shared.tracking.run_record import step_events
from gradsift.components.shared.tracking.tracking import StepTracker
from gradsift.components.shared.training.trained_model import training_result

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STEP = "promotion"
FINE_TUNING = "target_finetuning"
DECISION = "gradsift.decision"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """Whether a version is champion, and why.

    Attributes:
        version: its number.
        promoted: whether it is champion.
        words: the sentence that says why.
        tags: what to record of it, tags of the version.
    """

    version: str
    promoted: bool
    words: str
    tags: Mapping[str, str]


def promote(
    config: PromotionConfig,
    data: StepOutput,
    model: StepOutput,
    settings: str,
    root_uri: str,
    tracker: StepTracker,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> Decision:
    """Make the model a version of the registered model, its candidate, and perhaps its champion.

    Both models answer the target's test rows of this run's data, see `compare`. Without a champion, the candidate
    becomes it. A step that was killed or lost MLflow, and is tried again, finds the version that it made.

    Args:
        config: the registered model, and what its champion has to be beaten by.
        data: the prepared data.
        model: the fine-tuned model.
        settings: digest of the settings, from the preflight step.
        root_uri: the run root.
        tracker: gets both scores, the gain and its interval.
        tags: further tags of a new version.

    Raises:
        InputError: there is no MLflow server, or the champion cannot be loaded; it keeps its place.
        TrackingError: MLflow refuses, or does not answer for longer than outages are waited out.
    """
    return wait_out(
        TrackingOutageError, lambda: _promote(config, data, model, settings, root_uri, tracker, tags)
    )


def _promote(
    config: PromotionConfig,
    data: StepOutput,
    model: StepOutput,
    settings: str,
    root_uri: str,
    tracker: StepTracker,
    tags: Mapping[str, str],
) -> Decision:
    sync(root_uri, run_id())
    with tempfile.TemporaryDirectory() as folder:
        with open_registry(root_uri, config.model_name) as registry:
            candidate = _register(registry, data, model, root_uri, tags)
            champion = registry.holders().get(CHAMPION)
            registry.set_alias(CANDIDATE, candidate)
            files = _files_to_beat(registry, champion, model, Path(folder))
        decision = _decide(config, candidate, champion, files, data, model, tracker)
    logger.info(decision.words)
    with open_registry(root_uri, config.model_name) as registry:
        registry.set_tags(candidate, decision.tags)
        if decision.promoted:
            registry.set_alias(CHAMPION, candidate)
        registry.set_tags(candidate, {FINGERPRINT: fingerprint(data, settings)})
    return decision


def _register(
    registry: ModelRegistry, data: StepOutput, model: StepOutput, root_uri: str, tags: Mapping[str, str]
) -> "ModelVersion":
    """Return the version of this run's model."""
    model_id, mlflow_run = _logged_model(registry, root_uri)
    own = {"gradsift.run_id": run_id(), "gradsift.model_uri": model.uri, DATA_DIGEST: data.digest}
    return registry.ensure_version(model_id, mlflow_run, model.digest, {**tags, **own})


def _files_to_beat(
    registry: ModelRegistry, champion: "ModelVersion | None", model: StepOutput, folder: Path
) -> Path | None:
    """Return where the champion's files are, or None where there is none, or it is this very model."""
    if champion is None or champion.tags.get(MODEL_DIGEST) == model.digest:
        return None
    return registry.download(champion, folder)


def _decide(
    config: PromotionConfig,
    candidate: "ModelVersion",
    champion: "ModelVersion | None",
    champion_files: Path | None,
    data: StepOutput,
    model: StepOutput,
    tracker: StepTracker,
) -> Decision:
    number = str(candidate.version)
    who = f"Version {number} of {config.model_name}"
    if champion is None:
        return _decision(number, True, f"{who} is champion: it is the first.")
    if champion_files is None:
        return _still_champion(number, who, champion.tags.get(DECISION))
    use_given_cores()
    prepared = PreparedData(fetch(data))
    precision: Precision = training_result(model)["recipe"]["precision"]
    to_beat = _champion_scores(champion, config.model_name, champion_files, prepared, precision)
    if to_beat is None:
        words = (
            f"{who} stays candidate: the champion, version {champion.version}, does not know the target "
            f"{prepared.target!r} with the labels of the test rows."
        )
        return _decision(number, False, words)
    found = compare(config, _scores(open_model(fetch(model)), prepared, precision), to_beat)
    tracker.metrics(found.numbers())
    place = "is champion" if found.promoted else "stays candidate"
    words = f"{who} {place}, as {found.reason}: {found.text(f'version {champion.version}')}."
    return _decision(number, found.promoted, words, found.tags())


def _scores(model: TaskModel, data: PreparedData, precision: Precision) -> Scores:
    """Return the scores of a model's answers to the target's test rows."""
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return scores_of(held_out_answers(model, data, precision), data.split(data.target, "test"))


def _champion_scores(
    champion: "ModelVersion", name: str, files: Path, data: PreparedData, precision: Precision
) -> Scores | None:
    """Return the scores of the champion's answers, or None where it does not know the target or its labels.

    Raises:
        InputError: its files are damaged, or a test row is too long for it.
    """
    with _problems_of(champion, name, Exception):
        model = open_model(files)
    labels = data.task(data.target).labels
    if data.target not in model.task_names or model.label_names(data.target) != labels:
        return None
    with _problems_of(champion, name, InputError):
        return _scores(model, data, precision)


@contextmanager
def _problems_of(champion: "ModelVersion", name: str, kind: type[Exception]) -> Iterator[None]:
    """Turn errors of one kind into a sentence that names the champion, and says what to do."""
    try:
        yield
    except kind as error:
        reason = redacted(" ".join(str(error).split()))[:300].rstrip(".")
        raise InputError(
            f"Version {champion.version} of the registered model {name!r} is champion and cannot answer the test "
            f"rows: {reason}; give the alias champion to another version, or take it away."
        ) from error


def _decision(
    version: str, promoted: bool, words: str, tags: Mapping[str, str] = MappingProxyType({})
) -> Decision:
    return Decision(version, promoted, words, {DECISION: words, **tags})


def _still_champion(version: str, who: str, decided: str | None) -> Decision:
    """Return the decision on a model that an earlier try or run made champion: its tags are kept."""
    words = f"{who} is champion already."
    if decided is None:
        return _decision(version, True, words)
    return Decision(version, True, f"{words} When it was judged: {decided}", {})


def _logged_model(registry: ModelRegistry, root_uri: str) -> tuple[str, str]:
    """Return the ids of the model that this run's fine-tuning logged in MLflow, and of the MLflow run."""
    from gradsift.components.shared.tracking.mlflow_runs import MlflowRuns

    events = step_events(root_uri, run_id())[FINE_TUNING]
    starts = [event for event in events if event["event"] == "start"]
    find = MlflowRuns(None).find
    found = registry.call(find, run_id(), events[0]["time"], FINE_TUNING, len(starts), starts[-1])
    if found is not None:
        outputs = registry.call(registry.client.get_run, found.id).outputs
        for model in outputs.model_outputs if outputs else []:
            if registry.call(registry.client.get_logged_model, model.model_id).status == "READY":
                return model.model_id, found.id
    raise TrackingError(
        f"MLflow has no model of the run {run_id()} to register: `gradsift mlflow-sync` says what it refused."
    )
