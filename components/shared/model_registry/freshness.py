"""Says whether a run has anything to do: a judged version of the model may be of the same data and settings."""

import logging

from gradsift.components.shared.artifacts.step_output import StepOutput, digest_of
from gradsift.components.shared.errors import TrackingError
from gradsift.components.shared.model_registry.registry import CANDIDATE, CHAMPION, open_registry
from gradsift.components.shared.parameters.promotion import PromotionConfig
from gradsift.components.shared.tracking.tracking import StepTracker

FINGERPRINT = "gradsift.fingerprint"
"""Tag of a version that was judged, set last."""

logger = logging.getLogger(__name__)


def fingerprint(data: StepOutput, settings: str) -> str:
    """Return what tells a run's result from another's: a digest of its data and settings."""
    return digest_of([data.digest, settings])


def is_changed(
    config: PromotionConfig, data: StepOutput, settings: str, root_uri: str, tracker: StepTracker
) -> bool:
    """Say whether data or settings differ from those of the champion, and of the candidate that did not beat it.

    Where MLflow cannot be asked, they are taken to differ.

    Args:
        config: the registered model.
        data: the prepared data.
        settings: digest of the settings, from the preflight step.
        root_uri: the run root.
        tracker: gets the metric `changed`, 1 or 0.

    Raises:
        InputError: there is no MLflow server.
    """
    mark = fingerprint(data, settings)
    try:
        with open_registry(root_uri, config.model_name) as registry:
            holders = registry.holders()
    except TrackingError as error:
        logger.warning("%s The run goes on as if its data had changed.", error)
        holders = {}
    same = [
        f"version {holders[alias].version} ({alias})"
        for alias in (CHAMPION, CANDIDATE)
        if alias in holders and holders[alias].tags.get(FINGERPRINT) == mark
    ]
    if same:
        logger.warning("Data and settings are those of %s: the run ends here.", same[0])
    tracker.metrics({"changed": float(not same)})
    return not same
