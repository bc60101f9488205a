"""The KFP interface of data preparation."""

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def prepare_data(data: dsl.Output[dsl.Dataset], statistics: dsl.Output[dsl.Markdown], settings: dict) -> None:
    """Read a task suite, check and clean it, and write it as Arrow tables.

    Args:
        data: pointer to the prepared data.
        statistics: table of the tasks.
        settings: what preflight resolved for this step.
    """
    from gradsift.components.data_preparation import step
    from gradsift.components.shared.parameters.data import DataPreparationConfig
    from gradsift.components.shared.parameters.model import ModelConfig
    from gradsift.components.shared.step_output import copy_file
    from gradsift.components.shared.step_run import run_step

    config, model = DataPreparationConfig(**settings["config"]), ModelConfig(**settings["model"])
    output = run_step(
        "data_preparation",
        settings,
        config.model_dump(),
        lambda _: step.prepare_data(config, settings["output_uri"], model),
        data,
    )
    copy_file(output, "statistics.md", statistics)
