"""Which subsets are fine-tuned on, and where each result will be, before any of it has run."""

from collections.abc import Sequence

import numpy as np

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, output_key
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.true_losses import CALIBRATION, PlannedRuns
from gradsift.components.shared.storage.addresses import join_uri

GROUPS = 2
"""Fine-tunings are done in so many groups side by side, as the start of a process takes longer than a small one."""


def plan_runs(
    config: CalibrationConfig,
    data: StepOutput,
    meta: StepOutput,
    model: ModelConfig,
    recipe: TrainingRecipe,
    root_uri: str,
) -> list[PlannedRuns]:
    """Return the fine-tunings to do, in groups: on the target alone and on K random subsets.

    Args:
        config: how many.
        data: the prepared data.
        meta: the meta-trained model, which knows the digests of the pretrained weights it came from.
        model: the pretrained encoder and head.
        recipe: the recipe of the final fine-tuning, whose seed is the first one's.
        root_uri: the run root, a local path or an `s3://` address.

    Raises:
        InputError: there are not that many subsets.
    """
    tasks = PreparedData(fetch(data)).auxiliary_tasks
    same = {
        "data": data.digest,
        "base_model": [meta.metadata["base_model_digest"], meta.metadata["tokenizer_digest"]],
        "model": model.model_dump(),
        "recipe": recipe.model_dump(),
        "seeds": [recipe.seed + offset for offset in range(config.seeds)],
    }
    subsets = [[], *random_subsets(tasks, config.runs, config.seed)]
    planned = []
    for number in range(min(GROUPS, len(subsets))):
        inputs = {**same, "subsets": subsets[number::GROUPS]}
        uri = join_uri(root_uri, CALIBRATION, output_key(CALIBRATION, inputs))
        planned.append(PlannedRuns(number=number, uri=uri, inputs=inputs))
    return planned


def random_subsets(tasks: Sequence[str], count: int, seed: int) -> list[list[str]]:
    """Return distinct random subsets, none of them empty.

    Sizes are uniform over 1 to n, not half of the tasks each: a search for the best subset passes through
    all sizes, so estimates have to be right over all of them.

    Raises:
        InputError: there are not that many subsets.
    """
    possible = 2 ** len(tasks) - 1
    if count > possible:
        raise InputError(
            f"{count} random subsets were asked for: expected at most {possible}, all that {len(tasks)} tasks have."
        )
    generator = np.random.default_rng(seed)
    distinct: dict[tuple[str, ...], None] = {}
    while len(distinct) < count:
        size = int(generator.integers(1, len(tasks) + 1))
        members = np.sort(generator.permutation(len(tasks))[:size])
        distinct[tuple(tasks[member] for member in members)] = None
    return [list(subset) for subset in distinct]
