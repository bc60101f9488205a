"""Whether a group of the target's rows can be compared with the others, before anything is prepared."""

import numpy as np

from gradsift.components.shared.data.suites.task_suite import read_target
from gradsift.components.shared.data.two_groups import comparison_problem, membership
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import find_tokenizer
from gradsift.components.shared.models.model_kind import kind_of
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.fairness import ENCODER_EXPECTED, FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig


def check_groups(fairness: FairnessConfig, data: DataPreparationConfig, model: ModelConfig) -> str:
    """Say how many train rows of the target are of the group, and how many of others.

    Raises:
        InputError: the rows cannot be compared, or the base model is no encoder.
        StorageError: the target cannot be read.
    """
    target = read_target(data, "train")
    groups = [row.group for row in target.splits.get("train", [])]
    if problem := comparison_problem(fairness, target.name, target.labels, groups):
        raise InputError(problem)
    if kind_of(find_tokenizer(model.base_model).folder, model.base_model) != "encoder":
        raise InputError(f"Parameter base_model is {model.base_model!r}: {ENCODER_EXPECTED}")
    members = membership(groups, fairness.group)
    inside, outside = (int(np.sum(members == value)) for value in (1, 0))
    return f"{inside:,} train rows of {target.name} are of {fairness.group}, {outside:,} of other groups"
