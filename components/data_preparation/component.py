"""The KFP interface of data preparation."""

from typing import NamedTuple

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE, component


@component(TRAIN_IMAGE)
def prepare_data(
    data: dsl.Output[dsl.Dataset], statistics: dsl.Output[dsl.Markdown], settings: dict
) -> NamedTuple("Prepared", outputs=str, Output=str):  # type: ignore[valid-type]  # KFP reads the outputs from it
    """Read a task suite, check and clean it, write it as Arrow tables, and see whether a run has learned from it.

    Args:
        data: pointer to the prepared data.
        statistics: table of the tasks.
        settings: what preflight resolved for this step.

    Returns:
        The key of the run's outputs so far; and `changed`, or `unchanged` where a version of the registered model
        was judged with these data and settings (KFP's local runner knows conditions on an `Output` alone).
    """
    from gradsift.components.data_preparation import entry_point

    return entry_point.prepare_data(data, statistics, settings)
