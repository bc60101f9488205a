"""The KFP interface of fine-tuning runs: one task trains a group of them, one makes the final model."""

from typing import NamedTuple

from kfp import dsl

from gradsift.components.shared.images import TRAIN_IMAGE, component


@component(TRAIN_IMAGE)
def train_runs(settings: dict, planned: str) -> None:
    """Train a group of fine-tuning runs; those that are finished are not trained again.

    Args:
        settings: what preflight resolved for this step.
        planned: one of the texts that `plan_calibration` or `fine_tune_target` returns.
    """
    from gradsift.components.fine_tuning import entry_point

    entry_point.train_runs(settings, planned)


@component(TRAIN_IMAGE)
def fine_tune_target(fine_tuned_model: dsl.Output[dsl.Model], inputs: str, settings: dict) -> NamedTuple(  # type: ignore[valid-type]  # KFP reads the outputs from it
    "Tuned",
    outputs=str,
    Output=list,
):
    """Train the second round, choose a trained subset, keep its model, and plan what it is compared by.

    Args:
        fine_tuned_model: pointer to the final model.
        inputs: key of the run's outputs so far.
        settings: what preflight resolved for this step.

    Returns:
        The key of the run's outputs so far; and a text for each group of the runs that the model is compared by
        (KFP's local runner knows loops over an `Output` alone).
    """
    from gradsift.components.fine_tuning import entry_point

    return entry_point.fine_tune_target(fine_tuned_model, inputs, settings)
