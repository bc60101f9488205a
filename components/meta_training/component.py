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
    from gradsift.components.meta_training import step
    from gradsift.components.shared.parameters.model import ModelConfig
    from gradsift.components.shared.parameters.training import TrainingRecipe
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import run_step
    from gradsift.components.shared.training_launcher import launcher_on

    root, launcher = settings["output_uri"], launcher_on(settings.get("node_resources", {}))
    config, recipe = ModelConfig(**settings["model"]), TrainingRecipe(**settings["recipe"])
    run_step(
        step.STEP,
        settings,
        {**config.model_dump(), **recipe.model_dump()},
        lambda tracker: step.meta_train(
            config, recipe, read_pointer(data), settings["output_uri"], tracker, launcher
        ),
        model,
    )
