"""The KFP interface of subset estimation."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def estimate_subsets(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    gradients: dsl.Input[dsl.Dataset],
    selection: dsl.Output[dsl.Artifact],
    settings: dict,
    calibration: list,
) -> None:
    """Estimate the target's loss for many subsets of the auxiliary tasks and choose one.

    Args:
        data: pointer to the prepared data.
        model: pointer to the meta-trained model.
        gradients: pointer to the gradient store.
        selection: pointer to the estimates, the selection and the mixture files for trainers.
        settings: what preflight resolved for this step.
        calibration: the texts that `plan_calibration` returned, whose runs are finished.
    """
    from gradsift.components.subset_estimation import entry_point

    entry_point.estimate_subsets(data, model, gradients, selection, settings, calibration)
