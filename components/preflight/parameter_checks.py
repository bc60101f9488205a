"""The pipeline's parameters as the settings of its steps, and what is wrong with them."""

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from gradsift.components.calibration.config import CalibrationConfig
from gradsift.components.data_preparation.config import DataPreparationConfig
from gradsift.components.evaluation.config import EvaluationConfig
from gradsift.components.gradient_extraction.config import GradientExtractionConfig
from gradsift.components.preflight.cluster_config import PlatformConfig, ResourcesConfig
from gradsift.components.promotion.config import PromotionConfig
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.training_recipe import ModelConfig, TrainingRecipe
from gradsift.components.subset_estimation.config import SubsetEstimationConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
CONFIGS: list[tuple[tuple[str, ...], type[Any]]] = [
    (("prepare",), DataPreparationConfig),
    (("model",), ModelConfig),
    (("meta", "train"), TrainingRecipe),
    (("extract",), GradientExtractionConfig),
    (("calibrate",), CalibrationConfig),
    (("estimate",), SubsetEstimationConfig),
    (("fine_tune", "train"), TrainingRecipe),
    (("evaluate",), EvaluationConfig),
    (("promote",), PromotionConfig),
    (("resources",), ResourcesConfig),
    (("platform",), PlatformConfig),
]


def parameter_problems(parameters: Mapping[str, Any]) -> list[str]:
    """Return a sentence for everything that is wrong with the pipeline's parameters."""
    problems = [
        problem for prefixes, config in CONFIGS for problem in _problems(config, prefixes, parameters)
    ]
    if parameters["extract_base_weights"] and parameters["model_head"] != "label_embedding":
        problems.append(
            f"Parameter model_head is {parameters['model_head']!r}: expected 'label_embedding' where "
            "extract_base_weights is true, as another head means nothing before it is trained."
        )
    return list(dict.fromkeys(problems + _node_problems(parameters)))


def _node_problems(parameters: Mapping[str, Any]) -> list[str]:
    """Return what only training on several nodes asks for."""
    nodes, batch = parameters["train_nodes"], parameters["train_batch_size"]
    if nodes <= 1:
        return []
    problems = []
    if not parameters["output_uri"].startswith("s3://"):
        problems.append(
            f"Parameter train_nodes is {nodes}: expected 1, as output_uri is a local path, which other nodes "
            "cannot reach."
        )
    processes = nodes * (parameters["train_processes"] or parameters["resources_gpus"] or 1)
    if processes > 0 and batch % processes:
        problems.append(
            f"Parameter train_batch_size is {batch}: expected a multiple of the {processes} processes."
        )
    return problems


def config_of(config: type[Config], prefixes: tuple[str, ...], parameters: Mapping[str, Any]) -> Config:
    """Return a step's settings from the pipeline's parameters that begin with one of the prefixes.

    Raises:
        InputError: a value is impossible; the message names the pipeline's parameter.
    """
    names = _parameter_names(config, prefixes, parameters)
    try:
        return config(**{field: parameters[name] for field, name in names.items()})
    except InputError as error:
        raise InputError(_with_full_names(str(error), names)) from None


def _problems(config: type[Any], prefixes: tuple[str, ...], parameters: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with one step's settings: a value that is found wrong gives way to its default."""
    names = _parameter_names(config, prefixes, parameters)
    values = {field: parameters[name] for field, name in names.items()}
    problems = []
    while True:
        try:
            config(**values)
        except InputError as error:
            problems.append(_with_full_names(str(error), names))
            named = re.match(r"(?:Parameter )?(\w+)", str(error))
            if named is None or values.pop(named[1], None) is None:
                return problems
        else:
            return problems


def _parameter_names(
    config: type[Any], prefixes: tuple[str, ...], parameters: Mapping[str, Any]
) -> dict[str, str]:
    """Return each field's name among the parameters; a field that is no parameter is left out."""
    return {
        field.name: f"{prefix}_{field.name}"
        for field in dataclasses.fields(config)
        for prefix in prefixes
        if f"{prefix}_{field.name}" in parameters
    }


def _with_full_names(message: str, names: Mapping[str, str]) -> str:
    return re.sub(r"^(Parameter )?(\w+)", lambda m: (m[1] or "") + names.get(m[2], m[2]), message)
