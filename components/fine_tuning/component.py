"""The KFP interface of fine-tuning runs: one plans calibration, one trains a group, one makes the final model."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def plan_calibration(data: dsl.Input[dsl.Dataset], meta_model: dsl.Input[dsl.Model], settings: dict) -> list:
    """Plan the runs that calibrate the estimates; none where `calibrate_runs` is 0.

    Args:
        data: pointer to the prepared data.
        meta_model: pointer to the meta-trained model.
        settings: what preflight resolved for this step.

    Returns:
        A text for each group of runs.
    """
    from gradsift.components.fine_tuning import entry_point

    return entry_point.plan_calibration(data, meta_model, settings)


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def train_runs(data: dsl.Input[dsl.Dataset], settings: dict, planned: str) -> None:
    """Train a group of fine-tuning runs; those that are finished are not trained again.

    Args:
        data: pointer to the prepared data.
        settings: what preflight resolved for this step.
        planned: one of the texts that `plan_calibration` or `fine_tune_target` returns.
    """
    from gradsift.components.fine_tuning import entry_point

    entry_point.train_runs(data, settings, planned)


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def fine_tune_target(
    data: dsl.Input[dsl.Dataset],
    meta_model: dsl.Input[dsl.Model],
    selection: dsl.Input[dsl.Artifact],
    model: dsl.Output[dsl.Model],
    settings: dict,
) -> list:
    """Fine-tune on the selected tasks and the target, keep the model, and plan what it is compared by.

    Args:
        data: pointer to the prepared data.
        meta_model: pointer to the meta-trained model, which `fine_tune_start` may ask for.
        selection: pointer to the selection.
        model: pointer to the final model.
        settings: what preflight resolved for this step.

    Returns:
        A text for each group of the runs that the model is compared by.
    """
    from gradsift.components.fine_tuning import entry_point

    return entry_point.fine_tune_target(data, meta_model, selection, model, settings)
