"""All parameters of the pipeline: their names, their groups, and the rules between groups."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.shared.parameters.confirmation import ConfirmationConfig
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.estimation import EstimationSettings
from gradsift.components.shared.parameters.evaluation import ComparisonConfig, EvaluationConfig
from gradsift.components.shared.parameters.extraction import ExtractionSettings
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.kubernetes import PlatformConfig, ResourcesConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.promotion import PromotionConfig
from gradsift.components.shared.parameters.run import RunSettings
from gradsift.components.shared.parameters.sampling import OVER_TIME, MetaSampling, MetaScheduleStart
from gradsift.components.shared.parameters.settings import MAX_SEED, Settings, SettingsError, form_name
from gradsift.components.shared.parameters.training import (
    FineTuningLayers,
    FineTuningSettings,
    FineTuningStart,
    MetaTrainingSettings,
    ParallelRunsSettings,
    TrainingRecipe,
    TrainingSettings,
)

SETTINGS = "settings"
"""The form's last field: a mapping of all parameters that are no fields of their own."""


@dataclass(frozen=True)
class PipelineSettings:
    """All parameters, group by group, each checked."""

    run: RunSettings
    data: DataPreparationConfig
    model: ModelConfig
    training: TrainingSettings
    parallel_runs: ParallelRunsSettings
    meta_training: MetaTrainingSettings
    meta_sampling: MetaSampling
    meta_schedule_start: MetaScheduleStart
    extraction: ExtractionSettings
    calibration: CalibrationConfig
    confirmation: ConfirmationConfig
    estimation: EstimationSettings
    fine_tuning: FineTuningSettings
    fine_tuning_start: FineTuningStart
    fine_tuning_layers: FineTuningLayers
    fairness: FairnessConfig
    comparison: ComparisonConfig
    evaluation: EvaluationConfig
    promotion: PromotionConfig
    resources: ResourcesConfig
    platform: PlatformConfig

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the settings that parameters make, each by its full name; those left out have their defaults.

        Raises:
            SettingsError: a name is unknown or a value impossible; it has a sentence for each.
        """
        problems = [unknown_name(name) for name in parameters if name not in known_parameters()]
        groups: dict[str, Settings] = {}
        for name, group in _groups().items():
            try:
                groups[name] = group(**values_of(group, parameters))
            except SettingsError as error:
                problems += error.problems
        if not problems:
            problems = list(_rules(settings := cls(**groups)))  # type: ignore[arg-type]  # as _groups has them
        if problems:
            raise SettingsError(problems)
        return settings

    @property
    def sampling(self) -> MetaSampling | None:
        """The sampler of meta-training; None where rows are drawn by size."""
        return None if self.meta_sampling.sampler == "size" else self.meta_sampling

    @property
    def run_recipe(self) -> TrainingRecipe:
        """The recipe of fine-tuning runs, with the first of the scopes and rates."""
        layers = self.fine_tuning_layers
        recipe = TrainingRecipe.of(self.training, self.fine_tuning)
        rate = layers.rates[0] if layers.rates else recipe.learning_rate
        return recipe.model_copy(update={"scope": layers.scopes[0], "learning_rate": rate})


@dataclass(frozen=True)
class Parameter:
    """One parameter of the pipeline.

    Attributes:
        name: its full name.
        group: its group of settings.
        field: its name there.
        info: its declaration.
    """

    name: str
    group: type[Settings]
    field: str
    info: FieldInfo

    @property
    def default(self) -> Any:
        """Its default."""
        return self.info.default

    @property
    def description(self) -> str:
        """What it is."""
        return self.info.description or ""

    @property
    def kind(self) -> type:
        """Its type as Kubeflow has it: a choice is a text."""
        if self.choices:
            return str
        return get_origin(self.info.annotation) or self.info.annotation  # type: ignore[return-value]  # lists and mappings by their origin

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it may have, if it is a choice between a few."""
        annotation = self.info.annotation
        return get_args(annotation) if get_origin(annotation) is Literal else ()

    @property
    def is_of_numbers(self) -> bool:
        """Whether it is a list of numbers."""
        return any(float in get_args(each) for each in get_args(self.info.annotation))

    @property
    def in_form(self) -> bool:
        """Whether it is a field of the form in Kubeflow's UI."""
        return form_name(self.info) is not None


@cache
def known_parameters() -> dict[str, Parameter]:
    """Return every parameter by its full name, group by group."""
    found = [
        Parameter(group.full_name(field), group, field, info)
        for group in _groups().values()
        for field, info in group.model_fields.items()
    ]
    return {each.name: each for each in found}


@cache
def form_parameters() -> dict[str, Parameter]:
    """Return the parameters that are fields of the form, in alphabetical order as Kubeflow's UI has them."""
    return {name: each for name, each in sorted(known_parameters().items()) if each.in_form}


def defaults() -> dict[str, Any]:
    """Return every parameter's default by its full name."""
    return {name: each.default for name, each in known_parameters().items()}


def values_of(group: type[Settings], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of one group's fields among parameters by their full names."""
    return {
        each.field: parameters[each.name]
        for each in known_parameters().values()
        if each.group is group and each.name in parameters
    }


def form_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form's fields, all of them, that mean these parameters."""
    form = {name: parameters.get(name, each.default) for name, each in form_parameters().items()}
    return {**form, SETTINGS: {name: value for name, value in parameters.items() if name not in form}}


def parameters_of(form: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters, each by its full name, that the fields of a form mean.

    Raises:
        InputError: `settings` holds a field of the form.
    """
    given = form.get(SETTINGS) or {}
    if twice := [name for name in given if name in form_parameters()]:
        raise InputError(
            f"Parameter settings holds {', '.join(map(repr, twice))}: expected it in the form's field of that name."
        )
    return {name: value for name, value in form.items() if name != SETTINGS} | dict(given)


def unknown_name(name: str) -> str:
    """Return a sentence on a name that is no parameter's, with the nearest ones that are."""
    known = list(known_parameters())
    close = [other for other in known if name in other or other.split("_", 1)[-1] in name]
    close += [other for other in difflib.get_close_matches(name, known, cutoff=0.7) if other not in close]
    hint = f": did you mean {', '.join(close[:3])}?" if close else "; see `gradsift parameters`."
    return f"There is no parameter {name!r}{hint}"


@cache
def _groups() -> dict[str, type[Settings]]:
    hints = get_type_hints(PipelineSettings)
    return {each.name: hints[each.name] for each in fields(PipelineSettings)}


def _rules(settings: PipelineSettings) -> Iterator[str]:
    """Yield a sentence for each rule between groups that is broken."""
    if settings.extraction.base_weights and settings.model.head != "label_embedding":
        yield (
            f"Parameter model_head is {settings.model.head!r}: expected 'label_embedding' where "
            "extract_base_weights is true, as another head means nothing before it is trained."
        )
    yield from _layer_rules(settings)
    if settings.fairness.limit_estimate and settings.estimation.method == "random_ensemble":
        yield (
            "Parameter estimate_method is 'random_ensemble': expected forward_stepwise or best_of_m where "
            "fairness_limit_estimate is set, as it chooses tasks one by one, which have no gap of their own."
        )
    yield from _sampler_rules(settings)
    for group in (settings.calibration, settings.comparison):
        last = settings.fine_tuning.seed + group.seeds - 1
        if last > MAX_SEED:
            yield (
                f"Parameter fine_tune_seed is {settings.fine_tuning.seed}: expected at most "
                f"{MAX_SEED - group.seeds + 1:,}, as {group.full_name('seeds')} counts up from it."
            )
    for name, count in {
        "extract_pods": settings.extraction.pods,
        "train_nodes": settings.training.nodes,
    }.items():
        if count > 1 and not settings.run.output_uri.startswith("s3://"):
            yield (
                f"Parameter {name} is {count}: expected 1, as output_uri is a local path, which other nodes "
                "cannot reach."
            )
    nodes = settings.training.nodes
    if nodes > 1 and not settings.training.processes:
        yield from settings.training.batch_problems(nodes * max(1, settings.resources.gpus))


def _sampler_rules(settings: PipelineSettings) -> Iterator[str]:
    """Yield a sentence for each setting that a sampler over past periods lacks."""
    sampler = settings.meta_sampling.sampler
    if settings.meta_schedule_start.schedule_from == "champion":
        if sampler != "l2s":
            yield (
                f"Parameter meta_schedule_from is 'champion': expected 'none' where meta_sampler is {sampler!r}, "
                "as 'l2s' alone learns a schedule."
            )
        if not settings.promotion.model_name:
            yield (
                "Parameter meta_schedule_from is 'champion': expected promote_model_name, the registered model "
                "whose champion has the schedule."
            )
    if sampler not in OVER_TIME:
        return
    if settings.data.periods == "none":
        yield (
            f"Parameter meta_sampler is {sampler!r}: expected prepare_periods 'year', 'quarter' or 'month', as it "
            "draws from past periods."
        )
    if settings.fine_tuning_start.start == "base":
        yield (
            f"Parameter meta_sampler is {sampler!r}: expected fine_tune_start 'meta', or the schedule has no "
            "effect on the fine-tuned model."
        )


def _layer_rules(settings: PipelineSettings) -> Iterator[str]:
    """Yield a sentence for each scope that a linear head rules out."""
    scopes = settings.fine_tuning_layers.scopes
    if settings.model.head != "linear":
        return
    without_head = [scope for scope in scopes if scope not in ("all", "head")]
    if without_head and settings.fine_tuning_start.start == "base":
        yield (
            f"Parameter fine_tune_scopes holds {without_head[0]!r}: expected all or head, or fine_tune_start "
            "'meta', as the head 'linear' is zero before it is trained and gives other layers no gradient."
        )
    if scopes == ["head"] and settings.extraction.parameters == "shared":
        yield (
            "Parameter extract_parameters is 'shared': expected 'trained' where fine_tune_scopes is 'head', as not "
            "all tasks share a head."
        )
