"""The train rows that the kernel regression takes: drawn from the final model's, read or sketched."""

from collections.abc import Sequence

import numpy as np

from gradsift.components.evaluation.kernel.linearisation import Step
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Start

MAX_ROWS = 2048
"""Largest number of rows that are drawn: each takes a forward and a backward pass if no store has it."""


def drawn_rows(data: PreparedData, tasks: Sequence[str], most: int, seed: int) -> dict[str, list[int]]:
    """Return places of train rows by task, in ascending order; at most `most` rows of all tasks together."""
    counts = [data.task(task).rows["train"] for task in tasks]
    drawn = np.random.default_rng(seed).permutation(sum(counts))[:most]
    starts = np.cumsum([0, *counts])
    return {
        task: sorted((drawn[(start <= drawn) & (drawn < stop)] - start).tolist())
        for task, start, stop in zip(tasks, starts[:-1], starts[1:], strict=True)
    }


def store_at_start(
    gradients: StepOutput, model: ModelConfig, start: Start, step: Step
) -> GradientStore | None:
    """Return the gradient store of the weights that a fine-tuning started from, or None where there is none.

    With LoRA, a store at the pretrained weights cannot be used: a fine-tuning draws its own adapters by its seed.

    Args:
        gradients: the gradient stores.
        model: the settings of the model.
        start: where the fine-tuning started.
        step: the fine-tuning's step, whose parameters the gradients have to cover.

    Raises:
        GradientStoreError: the store is unfinished or altered.
    """
    uri, digest = gradients.uri, gradients.digest
    if start == "base":
        if "base_uri" not in gradients.metadata or model.lora_rank:
            return None
        uri, digest = gradients.metadata["base_uri"], gradients.metadata["base_digest"]
    store = GradientStore(uri, digest)
    return store if set(store.header.parameters) == set(step.start) else None
