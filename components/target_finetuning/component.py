"""The KFP interface of the final fine-tuning."""

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def fine_tune_target(
    data: dsl.Input[dsl.Dataset],
    selection: dsl.Input[dsl.Artifact],
    model: dsl.Output[dsl.Model],
    settings: dict,
) -> None:
    """Fine-tune the base model on the selected tasks and the target.

    Args:
        data: pointer to the prepared data.
        selection: pointer to the selection.
        model: pointer to the fine-tuned model.
        settings: what preflight resolved for this step.
    """
    from gradsift.components.target_finetuning import entry_point

    entry_point.fine_tune_target(data, selection, model, settings)
