"""The KFP interface of gradient extraction."""

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE, component


@component(TRAIN_IMAGE)
def extract_gradients(gradients: dsl.Output[dsl.Dataset], inputs: str, settings: dict) -> str:
    """Write the projected gradients of every train row and of the target's validation rows at theta*.

    Args:
        gradients: pointer to the gradient store.
        inputs: key of the run's outputs so far.
        settings: what preflight resolved for this step.

    Returns:
        The key of the run's outputs so far.
    """
    from gradsift.components.gradient_extraction import entry_point

    return entry_point.extract_gradients(gradients, inputs, settings)
