"""The KFP interface of subset estimation."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, component


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
