"""The step: register the fine-tuned model, and let it take the champion's place if it is good enough."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsift.components.promotion.config import PromotionConfig
from gradsift.components.promotion.freshness import FINGERPRINT, fingerprint
from gradsift.components.promotion.registry import (
    CANDIDATE,
    CHAMPION,
    MODEL_DIGEST,
    ModelRegistry,
    open_registry,
)
from gradsift.components.shared.errors import TrackingError, TrackingOutageError
from gradsift.components.shared.mlflow_sync import sync
from gradsift.components.shared.outages import wait_out
from gradsift.components.shared.prepared_data import PreparedData
from gradsift.components.shared.run_record import step_events
from gradsift.components.shared.step_output import StepOutput, fetch
from gradsift.components.shared.tracking import StepTracker, run_id
from gradsift.components.shared.trained_model import training_result

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from gradsift.components.shared.task_model import TaskModel

STEP = "promotion"
FINE_TUNING = "target_finetuning"


@dataclass(frozen=True)
class Decision:
    """Whether a version became champion, and the sentence that says why."""

    version: str
    promoted: bool
    words: str


def promote(
    config: PromotionConfig,
    data: StepOutput,
    model: StepOutput,
    settings: str,
    root_uri: str,
    tracker: StepTracker,
) -> Decision:
    """Make the model a version of the registered model, its candidate, and perhaps its champion.

    Both models answer the target's test rows of this run's data. Without a champion, the candidate becomes it. A
    step that was killed or lost MLflow, and is tried again, finds the version that it made.

    Args:
        config: the registered model, and what its champion has to be beaten by.
        data: the prepared data.
        model: the fine-tuned model.
        settings: digest of the settings, see `settings_digest`.
        root_uri: the run root.
        tracker: gets both accuracies.

    Raises:
        InputError: there is no MLflow server, or the champion is not a model of this pipeline.
        TrackingError: MLflow refuses, or does not answer for longer than outages are waited out.
    """
    return wait_out(TrackingOutageError, lambda: _promote(config, data, model, settings, root_uri, tracker))


def _promote(
    config: PromotionConfig,
    data: StepOutput,
    model: StepOutput,
    settings: str,
    root_uri: str,
    tracker: StepTracker,
) -> Decision:
    sync(root_uri, run_id())
    with open_registry(root_uri, config.model_name) as registry:
        model_id, mlflow_run = _logged_model(registry, root_uri)
        tags = {
            "gradsift.run_id": run_id(),
            "gradsift.model_uri": model.uri,
            "gradsift.data_digest": data.digest,
        }
        candidate = registry.ensure_version(model_id, mlflow_run, model.digest, tags)
        champion = registry.holders().get(CHAMPION)
        registry.set_alias(CANDIDATE, candidate)
        decision = _decide(config, registry, candidate, champion, data, model, tracker)
        if decision.promoted:
            registry.set_alias(CHAMPION, candidate)
        registry.set_tags(candidate, {"gradsift.decision": decision.words})
        registry.set_tags(candidate, {FINGERPRINT: fingerprint(data, settings)})
    return decision


def _decide(
    config: PromotionConfig,
    registry: ModelRegistry,
    candidate: "ModelVersion",
    champion: "ModelVersion | None",
    data: StepOutput,
    model: StepOutput,
    tracker: StepTracker,
) -> Decision:
    number = str(candidate.version)
    who = f"Version {number} of {config.model_name}"
    if champion is None:
        return Decision(number, True, f"{who} is champion: it is the first.")
    if champion.tags.get(MODEL_DIGEST) == model.digest:
        return Decision(number, True, f"{who} is champion already.")
    prepared = PreparedData(fetch(data))
    precision = training_result(model)["recipe"]["precision"]
    new = _accuracy(_load(fetch(model)), prepared, precision)
    tracker.metrics({"accuracy": new})
    against = f"version {champion.version}"
    with tempfile.TemporaryDirectory() as folder:
        old_model = _load(registry.download(champion, Path(folder)))
    if old_model.label_names(prepared.target) != prepared.task(prepared.target).labels:
        return Decision(
            number,
            False,
            f"{who} stays candidate: the champion, {against}, knows other labels than the test rows.",
        )
    old = _accuracy(old_model, prepared, precision)
    tracker.metrics({"champion_accuracy": old})
    promoted = bool(new - old >= config.min_gain)
    words = (
        f"{who} {'is champion' if promoted else 'stays candidate'}: accuracy {new:.2%} against {old:.2%} of "
        f"{against} on the same test rows, and a gain of at least {config.min_gain:.2%} was asked for."
    )
    return Decision(number, promoted, words)


def _load(folder: Path) -> "TaskModel":
    import torch

    from gradsift.components.shared.model_loading import open_model

    return open_model(folder).eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _accuracy(model: "TaskModel", data: PreparedData, precision: Any) -> float:
    """Return the share of the target's test rows whose answer a model finds the most likely, token by token."""
    examples = model.encode(data.split(data.target, "test"), data.target)
    return sum(int(answers.right().sum()) for _, answers in model.read(examples, precision)) / len(examples)


def _logged_model(registry: ModelRegistry, root_uri: str) -> tuple[str, str]:
    """Return the ids of the model that this run's fine-tuning logged in MLflow, and of the MLflow run."""
    from gradsift.components.shared.mlflow_runs import MlflowRuns

    events = step_events(root_uri, run_id())[FINE_TUNING]
    starts = [event for event in events if event["event"] == "start"]
    found = MlflowRuns(None).find(run_id(), events[0]["time"], FINE_TUNING, len(starts), starts[-1])
    if found is not None:
        outputs = registry.client.get_run(found.id).outputs
        for model in outputs.model_outputs if outputs else []:
            if registry.client.get_logged_model(model.model_id).status == "READY":
                return model.model_id, found.id
    raise TrackingError(
        f"MLflow has no model of the run {run_id()} to register: `gradsift mlflow-sync` says what it refused."
    )
