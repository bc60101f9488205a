"""The KFP interface of calibration: one component plans the runs, the other does a group of them."""

from kfp import dsl

from gradsift.components.shared.images import CPU_IMAGE, TRAIN_IMAGE


@dsl.component(base_image=CPU_IMAGE, install_kfp_package=False)
def plan_calibration(data: dsl.Input[dsl.Dataset], meta_model: dsl.Input[dsl.Model], settings: dict) -> list:
    """Choose the subsets to fine-tune on truly; none where `calibrate_runs` is 0.

    Args:
        data: pointer to the prepared data.
        meta_model: pointer to the meta-trained model.
        settings: what preflight resolved for this step.

    Returns:
        The planned runs, a JSON text for each group.
    """
    from gradsift.components.shared.parameters.calibration import CalibrationConfig

    config = CalibrationConfig(**settings["config"])
    if config.runs == 0:
        return []

    from gradsift.components.calibration.plan import plan_runs
    from gradsift.components.shared.parameters.model import ModelConfig
    from gradsift.components.shared.parameters.training import TrainingRecipe
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import begin_step

    model, recipe = ModelConfig(**settings["model"]), TrainingRecipe(**settings["recipe"])
    with begin_step("calibration-plan", settings, config.model_dump()):
        planned = plan_runs(
            config, read_pointer(data), read_pointer(meta_model), model, recipe, settings["output_uri"]
        )
    return [each.model_dump_json() for each in planned]


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def calibrate(
    data: dsl.Input[dsl.Dataset], losses: dsl.Output[dsl.Artifact], settings: dict, planned: str
) -> None:
    """Fine-tune the base model on a group of subsets and measure the target's validation split.

    Args:
        data: pointer to the prepared data.
        losses: pointer to the true losses.
        settings: what preflight resolved for this step.
        planned: one of the texts that `plan_calibration` returns.
    """
    from gradsift.components.calibration import step
    from gradsift.components.shared.step_output import read_pointer
    from gradsift.components.shared.step_run import run_step
    from gradsift.components.shared.training_launcher import launcher_on
    from gradsift.components.shared.true_losses import PlannedRuns

    runs = PlannedRuns.model_validate_json(planned)
    launcher = launcher_on(settings.get("node_resources", {}))
    run_step(
        f"calibration-{runs.number}",
        settings,
        runs.inputs,
        lambda tracker: step.calibrate(runs, read_pointer(data), settings["output_uri"], tracker, launcher),
        losses,
    )
