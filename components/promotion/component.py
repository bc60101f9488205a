"""The KFP interface of promotion: is there anything new to learn from, and is what came out the best so far?"""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def compare_with_champion(data: dsl.Input[dsl.Dataset], settings: dict) -> str:
    """Say whether this run's data or settings differ from those of the registered model.

    Args:
        data: pointer to the prepared data.
        settings: what preflight resolved for promotion.

    Returns:
        `changed` where there is something to do, else `unchanged`.
    """
    from gradsift.components.promotion import entry_point

    return entry_point.compare_with_champion(data, settings)


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def promote_model(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    decision: dsl.Output[dsl.Markdown],
    settings: dict,
) -> None:
    """Register the fine-tuned model as candidate, and as champion if it is good enough.

    Args:
        data: pointer to the prepared data.
        model: pointer to the fine-tuned model.
        decision: what was decided, and why.
        settings: what preflight resolved for promotion.
    """
    from gradsift.components.promotion import entry_point

    entry_point.promote_model(data, model, decision, settings)
