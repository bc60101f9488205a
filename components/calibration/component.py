"""The KFP interface of calibration: one component plans the runs, the other does a group of them."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def plan_calibration(data: dsl.Input[dsl.Dataset], meta_model: dsl.Input[dsl.Model], settings: dict) -> list:
    """Choose the subsets to fine-tune on truly; none where `calibrate_runs` is 0.

    Args:
        data: pointer to the prepared data.
        meta_model: pointer to the meta-trained model.
        settings: what preflight resolved for this step.

    Returns:
        The planned runs, a JSON text for each group.
    """
    from gradsift.components.calibration import entry_point

    return entry_point.plan_calibration(data, meta_model, settings)


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def calibrate(
    data: dsl.Input[dsl.Dataset], losses: dsl.Output[dsl.Artifact], settings: dict, planned: str
) -> None:
    """Fine-tune the base model on a group of subsets and measure the target's validation split.

    Args:
        data: pointer to the prepared data.
        losses: pointer to the true losses.
        settings: what preflight resolved for this step.
        planned: one of the texts that `plan_calibration` returns.
    """
    from gradsift.components.calibration import entry_point

    entry_point.calibrate(data, losses, settings, planned)
