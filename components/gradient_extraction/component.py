"""The KFP interface of gradient extraction: its parts are written in a pod each, and sealed to a store."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def extract_part(
    data: dsl.Input[dsl.Dataset], model: dsl.Input[dsl.Model], settings: dict, part: str
) -> None:
    """Write the projected gradients of one part's rows at theta*.

    Args:
        data: pointer to the prepared data.
        model: pointer to the meta-trained model.
        settings: what preflight resolved for this step.
        part: number of the part, from 0.
    """
    from gradsift.components.gradient_extraction import entry_point

    entry_point.extract_part(data, model, settings, part)


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def seal_gradients(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    gradients: dsl.Output[dsl.Dataset],
    settings: dict,
) -> None:
    """Make the finished parts one gradient store, of every train row and of the target's validation rows.

    Args:
        data: pointer to the prepared data.
        model: pointer to the meta-trained model.
        gradients: pointer to the gradient store.
        settings: what preflight resolved for this step.
    """
    from gradsift.components.gradient_extraction import entry_point

    entry_point.seal_gradients(data, model, gradients, settings)
