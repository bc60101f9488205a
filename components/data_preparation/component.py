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
    from gradsift.components.data_preparation import entry_point

    entry_point.prepare_data(data, statistics, settings)
