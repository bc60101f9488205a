"""The fidelity study: truly fine-tunes on many subsets, estimates the same ones, and says how close they come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.fidelity.judging import judge, ledger_of
from gradsift.components.fidelity.report import write_report
from gradsift.components.fidelity.results import Fidelity
from gradsift.components.fidelity.truth import MIN_SUBSETS, check_fits, subsets_of
from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.gradient_extraction.step import extract_gradients
from gradsift.components.meta_training.step import meta_train
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.model_kind import kind_of
from gradsift.components.shared.models.untrained_model import answers_untrained
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.parameters.training import Start, TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    FineTuningRuns,
    GroupSettings,
    RunGroup,
    base_digests,
    read_runs,
)
from gradsift.components.shared.records.planning import none_all_and_random, runs_of
from gradsift.components.shared.tracking.tracking import StepTracker

StartOption = Literal["base", "meta", "both"]
Result = TypeVar("Result")
CALIBRATION_RUNS = 10


@dataclass(frozen=True)
class Study:
    """What a study asks.

    Attributes:
        subsets: M, random subsets, beside none and all; their sizes are uniform.
        seeds: S, true fine-tunings of each; two or more measure the noise ceiling.
        start: what is truly fine-tuned: the base model, theta* (`meta`), or both in turn.
        seed: of the random subsets.
    """

    subsets: int = 40
    seeds: int = 2
    start: str = "base"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.subsets < MIN_SUBSETS:
            raise InputError(f"Option subsets is {self.subsets}: expected {MIN_SUBSETS} or more.")
        if self.seeds < 1:
            raise InputError(f"Option seeds is {self.seeds}: expected 1 or more.")
        if self.start not in get_args(StartOption):
            known = ", ".join(get_args(StartOption))
            raise InputError(f"Option start is {self.start!r}: expected one of {known}.")

    @property
    def starts(self) -> tuple[Start, ...]:
        """What the true fine-tunings start from."""
        return ("base", "meta") if self.start == "both" else (self.start,)  # type: ignore[return-value]


class StudySteps(Protocol):
    """Does the steps of a study one after the other, and shows how they go while its `with` block lasts."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...

    def do(self, name: str, work: Callable[[StepTracker], Result]) -> Result:
        """Do one step's work and return what it makes."""

    def seconds(self, *names: str) -> dict[str, float]:
        """Return how long each step took, in the longest of its tries: later ones find its work done."""


def run_study(
    study: Study,
    parameters: Mapping[str, Any],
    folder: Path,
    command: str,
    steps: StudySteps,
    truth: FineTuningRuns | None = None,
) -> list[FineTuningRuns]:
    """Do the study and write its report into `folder`; what is done there is not done again.

    Args:
        study: what it asks.
        parameters: the pipeline's parameters, by which everything is prepared, trained, extracted and estimated.
        folder: for the report and all that is kept.
        command: the command line, for the record.
        steps: does the steps and shows how they go.
        truth: true losses of an earlier study, whose subsets and seeds take the place of training's.

    Returns:
        The true runs from each start.

    Raises:
        InputError: an input is wrong, or `truth` is of other data or of another recipe.
        TrainingError: a fine-tuning failed.
    """
    root = str(folder)
    settings = PipelineSettings.of(parameters)
    model, scopes = settings.model, settings.fine_tuning_layers.scopes
    extraction = GradientExtractionConfig.of(settings.extraction, scopes)
    if extraction.cluster_sources:
        raise InputError(
            f"Parameter extract_cluster_sources is {extraction.cluster_sources}: expected 0, as the study trains "
            "on whole sources."
        )
    meta_recipe = TrainingRecipe.of(settings.training, settings.meta_training)
    recipe = settings.run_recipe
    start = truth.start if truth else study.starts[0]
    estimation = SubsetEstimationConfig.of(settings.estimation, recipe, meta_recipe, start)

    with steps:
        data = steps.do("data_preparation", lambda _: prepare_data(settings.data, root, model))
        model = model.resolved(data.metadata["max_length"])
        prepared = PreparedData(fetch(data))
        if truth:
            check_fits(truth, prepared, recipe)
            subsets = subsets_of(truth)
        else:
            subsets = none_all_and_random(prepared.auxiliary_tasks, study.subsets, study.seed)
        fairness = settings.fairness.in_training
        meta = steps.do(
            "meta_training",
            lambda tracker: meta_train(
                model, meta_recipe, data, root, tracker, sampling=settings.sampling, fairness=fairness
            ),
        )
        gradients = steps.do("gradient_extraction", partial(extract_gradients, extraction, data, meta, root))
        base = find_base_model(model.base_model)
        if answers_untrained(model, kind_of(base.folder, base.name)):
            both = extraction.model_copy(update={"base_weights": True})
            gradients = steps.do("gradient_extraction", partial(extract_gradients, both, data, meta, root))
        truths = [truth] if truth else []
        for start in () if truth else study.starts:
            group = _runs(study, subsets, start, data, meta, model, recipe, fairness)
            true = steps.do(group.purpose, partial(_true_losses, group, data, root))
            true.write(folder / f"true_losses_{start}")
            truths.append(true)

    calibration_runs = min(CALIBRATION_RUNS, len(subsets) // 2)
    opened = {"meta": GradientStore(gradients.uri, gradients.digest)}
    if "base_uri" in gradients.metadata:
        opened["base"] = GradientStore(gradients.metadata["base_uri"], gradients.metadata["base_digest"])
    Fidelity(
        suite=prepared.suite,
        target=prepared.target,
        command=command,
        subsets=subsets,
        seeds=len({run.seed for run in truths[0].runs}),
        val_rows=prepared.task(prepared.target).rows["val"],
        calibration_runs=calibration_runs,
        estimator=estimation.estimator,
        ridge=estimation.ridge,
        recipe=truths[0].recipe,
        truths=judge(estimation, opened, truths, subsets, calibration_runs),
        ledger=ledger_of(
            estimation, opened["meta"], truths, steps.seconds("meta_training", "gradient_extraction")
        ),
    ).write(folder)
    write_report(folder)
    return truths


def _runs(
    study: Study,
    subsets: list[list[str]],
    start: Start,
    data: StepOutput,
    meta: StepOutput,
    model: ModelConfig,
    recipe: TrainingRecipe,
    fairness: FairnessConfig | None,
) -> RunGroup:
    """Return the true fine-tunings from one start; test inputs are not answered."""
    prepared = PreparedData(fetch(data))
    own = meta if start == "meta" else None
    settings = GroupSettings.of(
        data, prepared, base_digests(meta), model, recipe, own, test_answers=False, fairness=fairness
    )
    runs = runs_of(prepared, subsets, recipe, study.seeds)
    return RunGroup(purpose=f"true_losses_{start}", number=0, settings=settings, runs=runs)


def _true_losses(group: RunGroup, data: StepOutput, root: str, tracker: StepTracker) -> FineTuningRuns:
    train_runs(group, data, root, tracker)
    true = read_runs([group], root)
    assert true is not None
    return true
