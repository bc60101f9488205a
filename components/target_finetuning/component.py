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
    from gradsift.components.shared.parameters.model import ModelConfig
    from gradsift.components.shared.parameters.training import TrainingRecipe
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import run_step
    from gradsift.components.shared.training_launcher import launcher_on
    from gradsift.components.target_finetuning import step

    config, recipe = ModelConfig(**settings["model"]), TrainingRecipe(**settings["recipe"])
    launcher = launcher_on(settings.get("node_resources", {}))
    run_step(
        step.STEP,
        settings,
        {**config.model_dump(), **recipe.model_dump()},
        lambda tracker: step.fine_tune_target(
            config,
            recipe,
            read_pointer(data),
            read_pointer(selection),
            settings["output_uri"],
            tracker,
            launcher,
        ),
        model,
    )
