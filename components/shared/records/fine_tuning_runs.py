"""The fine-tuning run: what decides one, where its record lies under the run root, and how it is read.

A run's record is a step output at `<root>/fine_tuning_runs/<key>/`, and its weights, where they are kept, one at
`<root>/fine_tuned_models/<key>/`, or until the choice is made at `<root>/candidate_models/<key>/`. The key is a
digest of everything that decides the run, so that a run which any step has trained is found by all others.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, find_output, output_key
from gradsift.components.shared.data.prepared_data import PreparedData, TaskIndex
from gradsift.components.shared.errors import NotFoundError
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Scope, Start, TrainingRecipe
from gradsift.components.shared.records.results import NonNegative, Record, ResultFile, Share
from gradsift.components.shared.storage.addresses import join_uri

STEP = "fine_tuning"
RUNS = "fine_tuning_runs"
MODELS: Final = "fine_tuned_models"
CANDIDATES: Final = "candidate_models"
Weights = Literal["", "fine_tuned_models", "candidate_models"]


class FineTuningRun(ResultFile):
    """`run.json`: one fine-tuning on a subset and the target, measured on the target's validation split.

    Attributes:
        subset: the auxiliary tasks, in the suite's order.
        seed: seed of the training.
        start: the weights that training starts from: `base`, the pretrained ones, or `meta`, theta*, around which
            the estimates expand.
        val_loss: mean over rows of the cross-entropy in nats, of a written answer the mean over its tokens.
        val_accuracy: share of right answers; of a written answer, that greedy decoding would give it whole.
        train_rows: rows that were trained on, the target's included.
        optimizer_steps: steps taken; 0 for the weights that runs start from, measured without training.
        tokens: tokens taken through the model in training.
        padding: how many of these are padding.
        seconds: duration of training and validation, without the start of the process.
    """

    FILE: ClassVar[str] = "run.json"

    subset: list[str]
    seed: NonNegativeInt
    start: Start
    val_loss: FiniteFloat
    val_accuracy: Share
    train_rows: NonNegativeInt
    optimizer_steps: NonNegativeInt
    tokens: NonNegativeInt = 0
    padding: NonNegativeInt = 0
    seconds: NonNegative


class FineTuningRuns(ResultFile):
    """`fine_tuning_runs.json`: runs of one target by one recipe, from the same weights.

    Attributes:
        suite: name of the task suite.
        target: name of the target task.
        recipe: the training recipe without its length and seed.
        start: what every run starts from (see `FineTuningRun`).
        max_length: largest number of tokens that were read of a row; None where it is not known.
        runs: the runs.
    """

    FILE: ClassVar[str] = "fine_tuning_runs.json"

    suite: str
    target: str
    recipe: dict[str, Any]
    start: Start
    max_length: PositiveInt | None = None
    runs: Annotated[list[FineTuningRun], Field(min_length=1)]


class GroupSettings(Record):
    """What the runs of a group have in common.

    Attributes:
        suite: name of the task suite.
        target: name of the target task.
        data: digest of the prepared data.
        data_uri: where they lie.
        start: what every run starts from (see `FineTuningRun`).
        weights: digests of those weights: of the base model and its tokenizer, or of theta*.
        meta_uri: where theta* lies, if runs start from it.
        model: fields of the `ModelConfig`.
        recipe: fields of the `TrainingRecipe` without `epochs`, `steps` and `seed`.
        test_answers: whether a run answers the test inputs too.
        fairness: fields of the `FairnessConfig` whose limit training keeps to; None for none.
    """

    suite: str
    target: str
    data: str
    data_uri: str
    start: Start
    weights: list[str]
    meta_uri: str | None = None
    model: dict[str, Any]
    recipe: dict[str, Any]
    test_answers: bool = True
    fairness: dict[str, Any] | None = Field(default=None, exclude_if=lambda limit: limit is None)

    @classmethod
    def of(
        cls,
        data: StepOutput,
        prepared: PreparedData,
        base: list[str],
        model: ModelConfig,
        recipe: TrainingRecipe,
        meta: StepOutput | None = None,
        test_answers: bool = True,
        fairness: FairnessConfig | None = None,
    ) -> "GroupSettings":
        """Return the settings of runs by a recipe on prepared data.

        Args:
            data: the prepared data.
            prepared: the same, opened.
            base: digests of the base model and its tokenizer.
            model: the pretrained model.
            recipe: how it is trained.
            meta: theta*, where runs start from it; None where they start from the base model.
            test_answers: whether a run answers the test inputs too.
            fairness: the limit that training keeps to; None for none.
        """
        return cls(
            suite=prepared.suite,
            target=prepared.target,
            data=data.digest,
            data_uri=data.uri,
            start="base" if meta is None else "meta",
            weights=base if meta is None else [meta.digest],
            meta_uri=None if meta is None else meta.uri,
            model=model.model_dump(),
            recipe=_shared_recipe(recipe),
            test_answers=test_answers,
            fairness=None if fairness is None else fairness.model_dump(),
        )


class Layers(Record):
    """Which layers are trained, and how fast.

    Attributes:
        scope: the layers (see `tune_scope`).
        learning_rate: peak of the learning rate.
    """

    scope: Scope
    learning_rate: Annotated[FiniteFloat, Field(gt=0)]


class PlannedRun(Record):
    """What tells a run from the others of its group.

    Attributes:
        subset: the auxiliary tasks, in the suite's order.
        seed: seed of the training.
        steps: optimizer steps; 0 measures the weights that runs start from.
        layers: in place of those that the group's recipe names.
        unlimited: whether it is trained without the limit that the group's runs keep to.
    """

    subset: list[str]
    seed: NonNegativeInt
    steps: NonNegativeInt
    layers: Layers | None = Field(default=None, exclude_if=lambda layers: layers is None)
    unlimited: bool = Field(default=False, exclude_if=lambda unlimited: not unlimited)

    @classmethod
    def of(cls, data: TaskIndex, subset: Sequence[str], recipe: TrainingRecipe) -> "PlannedRun":
        """Return the run of a recipe, its seed included, on a subset in any order."""
        tasks = [task for task in data.auxiliary_tasks if task in subset]
        rows = sum(data.task(task).rows["train"] for task in [data.target, *tasks])
        return cls(subset=tasks, seed=recipe.seed, steps=recipe.optimizer_steps(rows))


class RunGroup(Record):
    """Fine-tuning runs that one process launch trains, one after the other.

    Attributes:
        purpose: what the runs are for, the beginning of the name that their training is logged by.
        number: tells the group from the others with this purpose.
        settings: what the runs have in common.
        runs: the runs.
        weights: the folder under the run root that keeps the weights of the runs: `MODELS`, which has those of
            every run of the group; `CANDIDATES`, which has those of new runs until the choice is made; or none.
    """

    purpose: str
    number: NonNegativeInt
    settings: GroupSettings
    runs: Annotated[list[PlannedRun], Field(min_length=1)]
    weights: Weights = ""


def base_digests(model: StepOutput) -> list[str]:
    """Return the digests of the pretrained weights and the tokenizer that a trained model came from."""
    return [model.metadata["base_model_digest"], model.metadata["tokenizer_digest"]]


def run_recipe(settings: GroupSettings, run: PlannedRun) -> TrainingRecipe:
    """Return the whole recipe of a run."""
    layers = {} if run.layers is None else run.layers.model_dump()
    return TrainingRecipe(**{**settings.recipe, **layers}, steps=run.steps, seed=run.seed)


def run_limit(settings: GroupSettings, run: PlannedRun) -> FairnessConfig | None:
    """Return the limit that a run's training keeps to; None for none."""
    if settings.fairness is None or run.unlimited or run.steps == 0:
        return None
    return FairnessConfig(**settings.fairness)


def run_inputs(settings: GroupSettings, run: PlannedRun) -> dict[str, Any]:
    """Return everything that decides a run, JSON values: the same, whichever group it is planned in."""
    model = {name: value for name, value in settings.model.items() if name != "base_model"}
    own = {"model": model, "recipe": _shared_recipe(run_recipe(settings, run))}
    common = settings.model_dump(exclude={"suite", "target", "data_uri", "meta_uri", "fairness"}) | own
    limit = run_limit(settings, run)
    limited = {} if limit is None else {"fairness": limit.model_dump()}
    return {**common, **limited, **run.model_dump(exclude={"layers", "unlimited"})}


def _shared_recipe(recipe: TrainingRecipe) -> dict[str, Any]:
    """Return the fields of a recipe that no `PlannedRun` has."""
    return recipe.model_dump(exclude={"epochs", "steps", "seed"})


def run_key(settings: GroupSettings, run: PlannedRun) -> str:
    """Return the key of a run, the same for its record and its weights."""
    return output_key(STEP, run_inputs(settings, run))


def find_record(settings: GroupSettings, run: PlannedRun, root_uri: str) -> StepOutput | None:
    """Return the record of a run, or None where nobody has finished it."""
    return find_output(join_uri(root_uri, RUNS, run_key(settings, run)))


def find_model(
    settings: GroupSettings, run: PlannedRun, root_uri: str, place: Weights = MODELS
) -> StepOutput | None:
    """Return the weights of a run, or None where that folder does not have them."""
    return find_output(join_uri(root_uri, place, run_key(settings, run)))


def finished_record(settings: GroupSettings, run: PlannedRun, root_uri: str) -> StepOutput:
    """Return the record of a run that must be finished by now.

    Raises:
        NotFoundError: it is not.
    """
    output = find_record(settings, run, root_uri)
    if output is None:
        uri = join_uri(root_uri, RUNS, run_key(settings, run))
        raise NotFoundError(f"There is no finished fine-tuning run at {uri}: run the pipeline again.")
    return output


def read_runs(groups: Sequence[RunGroup], root_uri: str) -> FineTuningRuns | None:
    """Return the records of all runs of groups with the same settings, or None where there is no group.

    Raises:
        NotFoundError: a run is not finished.
    """
    if not groups:
        return None
    settings = groups[0].settings
    outputs = [finished_record(group.settings, run, root_uri) for group in groups for run in group.runs]
    return FineTuningRuns(
        suite=settings.suite,
        target=settings.target,
        recipe=settings.recipe,
        start=settings.start,
        max_length=settings.model["max_length"] or None,
        runs=[FineTuningRun.read(fetch(output, [FineTuningRun.FILE])) for output in outputs],
    )
