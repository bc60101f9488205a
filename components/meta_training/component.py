"""The KFP interface of meta-training."""

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def meta_train(data: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model], settings: dict) -> None:
    """Train one model on all tasks: the meta-initialisation theta*.

    Args:
        data: pointer to the prepared data.
        model: pointer to the trained model.
        settings: what preflight resolved for this step.
    """
    from gradsift.components.meta_training import entry_point

    entry_point.meta_train(data, model, settings)
