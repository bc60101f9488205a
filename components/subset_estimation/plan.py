"""Which fine-tuning runs come before the estimates are final: the first round."""

from functools import partial

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.shared.parameters.confirmation import ConfirmationConfig
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.records.fine_tuning_runs import (
    CANDIDATES,
    GroupSettings,
    RunGroup,
    Weights,
    base_digests,
)
from gradsift.components.shared.records.planning import CALIBRATION, first_round, group_runs
from gradsift.components.subset_estimation.step import promising_subsets


def plan_first_round(
    config: SubsetEstimationConfig,
    calibration: CalibrationConfig,
    confirmation: ConfirmationConfig,
    data: StepOutput,
    meta: StepOutput,
    gradients: StepOutput,
    model: ModelConfig,
    root_uri: str,
    parallel_runs: int = 1,
    fairness: FairnessConfig | None = None,
) -> list[RunGroup]:
    """Return the runs on none, all, random subsets and those that promise most; none where none are asked for.

    Args:
        config: how subsets are estimated; it has the runs' recipe, that of the final model, and their start.
        calibration: how many random subsets, and how many seeds of them.
        confirmation: how many subsets are taken by their estimates.
        data: the prepared data.
        meta: the meta-trained model, which knows the digests of the pretrained weights it came from.
        gradients: the gradient store, by which subsets promise something.
        model: the pretrained model.
        root_uri: the run root, a local path or an `s3://` address.
        parallel_runs: the largest number of groups.
        fairness: the groups and the limits that runs and subsets keep to; None for none.

    Raises:
        InputError: there are not that many random subsets.
    """
    if not calibration.runs and not confirmation.runs:
        return []
    prepared, recipe = PreparedData(fetch(data)), config.fine_tuning
    config = config.for_tasks(prepared.auxiliary_tasks)
    limit = fairness if fairness is not None and fairness.limit_estimate else None
    promising = partial(promising_subsets, config, gradients, root_uri, data=data, fairness=limit)
    runs = first_round(prepared, recipe, calibration, confirmation, config.excluded_tasks, promising)
    own_start = meta if config.start == "meta" else None
    trained_within = None if fairness is None else fairness.in_training
    settings = GroupSettings.of(
        data, prepared, base_digests(meta), model, recipe, own_start, fairness=trained_within
    )
    weights: Weights = CANDIDATES if confirmation.runs else ""
    return group_runs(CALIBRATION, settings, runs, root_uri, parallel_runs, weights)
