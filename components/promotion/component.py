"""The KFP interface of the run's end: the model is registered if that is asked for, and the run is summed up."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE, component


@component(TRAIN_IMAGE)
def conclude(summary: dsl.Output[dsl.Markdown], inputs: str, settings: dict) -> None:
    """Register the fine-tuned model where a name for it is given, and say how the run ended.

    Args:
        summary: selection, gain, where report and model are, and what became of the model.
        inputs: key of the run's outputs so far.
        settings: what preflight resolved for promotion.
    """
    from gradsift.components.promotion import entry_point

    entry_point.conclude(summary, inputs, settings)


@component(CPU_IMAGE)
def conclude_unchanged(summary: dsl.Output[dsl.Markdown], settings: dict) -> None:
    """Say that the run ended early, as it had nothing new to learn from.

    Args:
        summary: what was found.
        settings: what preflight resolved for promotion.
    """
    from gradsift.components.promotion import entry_point

    entry_point.conclude_unchanged(summary, settings)
