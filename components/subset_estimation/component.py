"""The KFP interface of subset estimation: one task plans the first runs, one estimates and selects."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, component


@component(CPU_IMAGE)
def plan_calibration(inputs: str, settings: dict) -> list:
    """Plan the first round of runs, whose losses correct the estimates and among which the choice may be.

    Args:
        inputs: key of the run's outputs so far.
        settings: what preflight resolved for this step.

    Returns:
        A text for each group of runs; none where `calibrate_runs` and `confirm_runs` are 0.
    """
    from gradsift.components.subset_estimation import entry_point

    return entry_point.plan_calibration(inputs, settings)


@component(CPU_IMAGE)
def estimate_subsets(
    selection: dsl.Output[dsl.Artifact], inputs: str, settings: dict, calibration: list
) -> str:
    """Estimate the target's loss for many subsets of the auxiliary tasks and choose one.

    Args:
        selection: pointer to the estimates, the selection and the mixture files for trainers.
        inputs: key of the run's outputs so far.
        settings: what preflight resolved for this step.
        calibration: the texts that `plan_calibration` returned, whose runs are finished.

    Returns:
        The key of the run's outputs so far.
    """
    from gradsift.components.subset_estimation import entry_point

    return entry_point.estimate_subsets(selection, inputs, settings, calibration)
