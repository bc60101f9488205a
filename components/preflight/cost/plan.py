"""What each phase of a run will cost: rows, tokens, optimizer steps, floating-point operations and pods.

The runs, their steps and their rows are those that the pipeline plans. Which subsets the estimates will name is not
known yet: they count as large as they may be, which matters where `fine_tune_steps` is 0. A run that trains a part
of the layers counts as one that trains all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, islice

from gradsift.components.preflight.cost.cut_sources import cut_sources
from gradsift.components.preflight.cost.estimation import EstimationCost, estimation_cost
from gradsift.components.preflight.cost.model_size import ModelSize
from gradsift.components.preflight.cost.row_lengths import RowLengths
from gradsift.components.shared.data.prepared_data import TaskIndex
from gradsift.components.shared.models.untrained_model import answers_untrained
from gradsift.components.shared.parameters.estimation import EstimationSettings
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.choosing_cost import cost_of_all, cost_share
from gradsift.components.shared.records.fine_tuning_runs import Layers, PlannedRun
from gradsift.components.shared.records.planning import (
    comparison_runs,
    first_round,
    group_count,
    runs_of,
    sweep_runs,
)

OTHER_PODS = 7
"""Preflight, data preparation, two of estimation, evaluation, conclusion, and one that deletes what is left."""


@dataclass(frozen=True)
class Phase:
    """What one phase of a run costs.

    Attributes:
        name: what it is called.
        runs: trainings.
        steps: their optimizer steps.
        rows: rows that they train on, repetitions included; of extraction, rows of the store.
        tokens: of these rows, without padding.
        operations: floating-point operations, those of answering held-out rows after each training included.
        pods: pods of its tasks, and the nodes of TrainJobs.
        devices: GPUs that work at the same time, or 1 where the CPU computes.
    """

    name: str
    runs: int
    steps: int
    rows: int
    tokens: float
    operations: float
    pods: int
    devices: int


@dataclass(frozen=True)
class CostPlan:
    """What a run will cost.

    Attributes:
        meta: meta-training.
        extraction: gradient extraction.
        before: the runs before the choice, in two rounds; or one round, and the final model's run after it.
        layers: the further runs that choose which layers are trained; None where there is nothing to choose.
        compared: the runs that the choice is compared by.
        estimation: the gradient store and the estimates.
    """

    meta: Phase
    extraction: Phase
    before: tuple[Phase, Phase]
    layers: Phase | None
    compared: Phase
    estimation: EstimationCost

    @property
    def phases(self) -> list[Phase]:
        """The phases that take the model, in order."""
        layers = [] if self.layers is None else [self.layers]
        return [self.meta, self.extraction, *self.before, *layers, self.compared]

    @property
    def pods(self) -> int:
        """Pods of all tasks."""
        return OTHER_PODS + sum(phase.pods for phase in self.phases)

    @property
    def of_all(self) -> float:
        """Floating-point operations of training on every estimated subset."""
        operations, runs = self._before
        return cost_of_all(operations, runs, self.estimation.search.subsets)

    @property
    def share(self) -> float:
        """Floating-point operations up to the choice, as a share of those of training on every estimated subset."""
        return cost_share(self._before[0], self.meta.operations + self.extraction.operations, self.of_all)

    @property
    def _before(self) -> tuple[float, int]:
        return sum(each.operations for each in self.before), sum(each.runs for each in self.before)


def plan_cost(settings: PipelineSettings, data: TaskIndex, lengths: RowLengths, size: ModelSize) -> CostPlan:
    """Return what a run will cost.

    Args:
        settings: all settings.
        data: the tasks and how many rows they have.
        lengths: how many tokens these have.
        size: the size of the model.

    Raises:
        InputError: there are not as many random subsets as calibration runs.
    """
    before_cut = _Counts(settings, data, lengths, size)
    data, lengths = cut_sources(settings.extraction, data, lengths)
    counts = _Counts(settings, data, lengths, size)
    recipe = settings.run_recipe
    limits = settings.estimation.for_tasks(data.auxiliary_tasks)
    excluded = limits.excluded_tasks
    everything = [task for task in data.auxiliary_tasks if task not in excluded]
    largest = partial(_largest_subsets, data, limits)
    first = first_round(data, recipe, settings.calibration, settings.confirmation, excluded, largest)
    [selected] = largest([[], everything], 1) or [everything]
    final = PlannedRun.of(data, selected, recipe)
    last, second = "final model", [final]
    if settings.confirmation.runs:  # the final model is that of a run before the choice
        last = "second round of runs"
        subsets = largest([run.subset for run in first], settings.confirmation.rounds[1])
        second = runs_of(data, subsets, recipe, seeds=1)
    random = largest([selected, *(run.subset for run in (*first, *second))], 1)
    tried = sweep_runs(settings.fine_tuning_layers, recipe, final)
    known = (
        [*first, *second] if len(tried) == 1 else [final]
    )  # other layers than those of the runs may be chosen
    compared = comparison_runs(
        data,
        [selected, everything, [], *random],
        recipe.model_copy(update={"steps": final.steps}),
        settings.comparison,
        settings.fine_tuning_start.start == "meta" or answers_untrained(settings.model, size.kind),
        _all_layers(settings),
        limited=settings.fairness.in_training is not None,
    )
    return CostPlan(
        meta=before_cut.meta_training(),
        extraction=before_cut.extraction(),
        before=(
            counts.fine_tuning("first round of runs", first),
            counts.fine_tuning(last, second, groups=1),
        ),
        layers=counts.sweep(tried[1:]) if len(tried) > 1 else None,
        compared=counts.fine_tuning("comparisons", [run for run in compared if run not in known]),
        estimation=estimation_cost(settings, before_cut.data, data, size),
    )


def _largest_subsets(
    data: TaskIndex, limits: EstimationSettings, trained: Sequence[Sequence[str]], count: int
) -> list[list[str]]:
    """Return as many subsets as the estimates may name, large ones first, that are not trained."""
    sources = [task for task in data.tasks if task.name not in {data.target, *limits.excluded_tasks}]
    sources.sort(key=lambda task: task.rows["train"], reverse=True)
    names = [task.name for task in sources]
    sizes = range(min(len(names), limits.max_tasks or len(names)), -1, -1)
    chosen = (set(subset) for size in sizes for subset in combinations(names, size))
    subsets = ([task for task in data.auxiliary_tasks if task in subset] for subset in chosen)
    return list(islice((subset for subset in subsets if subset not in trained), count))


def _all_layers(settings: PipelineSettings) -> Layers | None:
    """Return the layers of the comparison with all layers, at one of the rates; None where no part is tried."""
    if set(settings.fine_tuning_layers.scopes) == {"all"}:
        return None
    return Layers(scope="all", learning_rate=settings.run_recipe.learning_rate)


@dataclass(frozen=True)
class _Counts:
    """Counts what phases cost."""

    settings: PipelineSettings
    data: TaskIndex
    lengths: RowLengths
    size: ModelSize

    def meta_training(self) -> Phase:
        recipe = TrainingRecipe.of(self.settings.training, self.settings.meta_training)
        tasks = [task.name for task in self.data.tasks]
        sampling = self.settings.meta_sampling
        train_rows = sum(task.rows["train"] for task in self.data.tasks)
        steps = recipe.optimizer_steps(sampling.counted_rows(train_rows, len(tasks)))
        rows = steps * recipe.batch_size
        tokens = rows * self._mean_length(tasks, recipe.sampling_exponent)
        return Phase(
            name="meta-training",
            runs=1,
            steps=steps,
            rows=rows,
            tokens=tokens,
            operations=self._training(tokens, rows) + self._probing(),
            pods=_pods(self.settings.training.nodes),
            devices=self._devices(self.settings.training.nodes),
        )

    def _probing(self) -> float:
        """Count a forward and a backward pass of what a sampler looks at before each round."""
        sampling = self.settings.sampling
        if sampling is None or not sampling.looks:
            return 0.0
        rows = {task.name: min(task.rows["train"], sampling.probe_rows) for task in self.data.tasks}
        tokens = sum(count * self.lengths.train[task] for task, count in rows.items())
        length = tokens / sum(rows.values())
        return sampling.rounds * (self.size.forward(tokens, length) + self.size.backward(tokens, length))

    def extraction(self) -> Phase:
        """Count a forward pass, backward passes for the loss and each probe, and a forward pass at the start."""
        config, target = self.settings.extraction, self.data.task(self.data.target)
        rows = sum(task.rows["train"] for task in self.data.tasks) + target.rows["val"]
        tokens = sum(task.rows["train"] * self.lengths.train[task.name] for task in self.data.tasks)
        tokens += target.rows["val"] * self.lengths.held_out["val"]
        length, stores = tokens / rows, 2 if config.base_weights else 1
        passes = self.size.forward(tokens, length) + (1 + config.probes) * self.size.backward(tokens, length)
        return Phase(
            name="gradient extraction",
            runs=0,
            steps=0,
            rows=stores * rows,
            tokens=stores * tokens,
            operations=stores * passes + self.size.forward(tokens, length),
            pods=_pods(config.pods),
            devices=self._devices(config.pods),
        )

    def fine_tuning(self, name: str, runs: Sequence[PlannedRun], groups: int | None = None) -> Phase:
        """Count runs that are divided into groups, as many as the settings say unless it is known."""
        settings = self.settings
        if groups is None:
            groups = group_count(len(runs), settings.run.output_uri, settings.parallel_runs.parallel_runs)
        batch, exponent = settings.training.batch_size, settings.fine_tuning.sampling_exponent
        rows = [run.steps * batch for run in runs]
        tokens = [
            count * self._mean_length([self.data.target, *run.subset], exponent)
            for count, run in zip(rows, runs, strict=True)
        ]
        trained = sum(self._training(*pair) for pair in zip(tokens, rows, strict=True) if pair[1])
        return Phase(
            name=name,
            runs=len(runs),
            steps=sum(run.steps for run in runs),
            rows=sum(rows),
            tokens=sum(tokens),
            operations=trained + len(runs) * self._answering(),
            pods=groups * _pods(settings.training.nodes),
            devices=max(1, groups) * self._devices(settings.training.nodes),
        )

    def sweep(self, runs: Sequence[PlannedRun]) -> Phase:
        """Count runs that choose which layers are trained, in the pod of the runs before them."""
        phase = self.fine_tuning("choice of layers", runs, groups=1)
        return replace(phase, pods=phase.pods - 1)

    def _training(self, tokens: float, rows: int) -> float:
        length = tokens / rows
        forward = self.size.forward(tokens, length)
        again = forward if self.settings.training.recomputes_activations(self.size.parameters) else 0
        return forward + again + self.size.backward(tokens, length)

    def _answering(self) -> float:
        """Count the answers to held-out rows: a test row is read with every label, or read and written."""
        target, operations = self.data.task(self.data.target), 0.0
        passes = {"val": 1, "test": 1 if self.size.kind == "encoder" else len(target.labels) or 2}
        for split, length in self.lengths.held_out.items():
            operations += passes[split] * self.size.forward(target.rows[split] * length, length)
        return operations

    def _mean_length(self, tasks: Sequence[str], sampling_exponent: float) -> float:
        """Return the mean length of rows as training draws them (see `example_order`)."""
        weights = {task: self.data.task(task).rows["train"] ** sampling_exponent for task in tasks}
        total = sum(weight * self.lengths.train[task] for task, weight in weights.items())
        return total / sum(weights.values())

    def _devices(self, nodes: int) -> int:
        return nodes * max(1, self.settings.resources.gpus)


def _pods(nodes: int) -> int:
    """Return the pods of a task: its own, and those of the TrainJob that it launches on several nodes."""
    return 1 if nodes == 1 else 1 + nodes
