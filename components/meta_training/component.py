"""The KFP interface of meta-training."""

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE, component


@component(TRAIN_IMAGE)
def meta_train(meta_model: dsl.Output[dsl.Model], inputs: str, settings: dict) -> str:
    """Train one model on all tasks: the meta-initialisation theta*.

    Args:
        meta_model: pointer to the trained model.
        inputs: key of the run's outputs so far.
        settings: what preflight resolved for this step.

    Returns:
        The key of the run's outputs so far.
    """
    from gradsift.components.meta_training import entry_point

    return entry_point.meta_train(meta_model, inputs, settings)
