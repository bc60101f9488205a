"""Loss, margins, projected loss gradient and sampled-label probes of prepared rows."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gradsift.components.gradient_extraction.gradients.starting_point import StartingPoint
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradient_store.gradient_format import Shard
from gradsift.components.shared.gradients.counter_hash import uniforms
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.gradients.self_check import check_gradients, check_projection
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.precision import autocast
from gradsift.components.shared.models.recomputation import LayerRecomputation
from gradsift.components.shared.models.task_model import Example, TaskModel, token_count
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.process.gpus import others_hold_memory

if TYPE_CHECKING:
    from datasets import Dataset

FEW_ROWS = 0.5
"""Share of a batch's rows up to which two passes of theirs cost less than one more backward pass of all."""


class GradientExtractor:
    """Computes shards of a gradient store for one model."""

    def __init__(
        self,
        model: TaskModel,
        parameters: list[str],
        config: GradientExtractionConfig,
        start: StartingPoint | None = None,
    ) -> None:
        """Prepare `model` (at theta*) for the gradients of `parameters`.

        Args:
            model: the model.
            parameters: names of the parameters whose gradient is wanted.
            config: the settings.
            start: what the model's training started from; None where the model is there still.

        Raises:
            InputError: a parameter belongs to a kind of module whose gradient cannot be extracted.
        """
        self.model = model.eval()
        self.config = config
        self.start = start
        self.tokens = config.tokens_per_batch
        self.shapes = {name: tuple(model.get_parameter(name).shape) for name in parameters}
        self.recomputation = LayerRecomputation(model)
        self.sketcher = GradientSketcher(
            model, parameters, config.dimension, config.projection_width, config.seed
        )

    def shard(self, rows: "Dataset", task: str, report: Callable[[int], None]) -> Shard:
        """Compute the shard of these rows; it does not depend on how they are batched.

        Layers and scores are recomputed for a row with more tokens than a batch may have. Where a batch does not
        fit into the GPU's memory, it and all later ones are halved.

        Args:
            rows: prepared rows of one task.
            task: the task.
            report: called with the number of rows after every batch.

        Raises:
            InputError: a single row does not fit into the GPU's memory, or not into the model.
            OutOfMemoryError: it does not fit while other processes hold memory of the GPU.
        """
        examples = self.model.encode(rows, task)
        ids: list[str] = list(rows["id"])
        arrays = {name: torch.empty(len(ids), *size) for name, size in self._sizes().items()}
        lengths = [token_count(example) for example in examples]
        waiting = batches_by_tokens(range(len(ids)), lengths, self.tokens)
        while waiting:
            batch = waiting.popleft()
            tokens = len(batch) * max(lengths[row] for row in batch)
            self._recompute(tokens > self.tokens)
            streams = [f"label/{task}/{ids[row]}" for row in batch]
            try:
                results = self._batch([examples[row] for row in batch], streams)
            except torch.OutOfMemoryError as error:
                self._halve_batches(ids[batch[0]], task, tokens, error)
                left = [row for part in [batch, *waiting] for row in part]
                waiting = batches_by_tokens(left, lengths, self.tokens)
                continue
            for name, values in results.items():
                arrays[name][batch] = values.float().cpu()
            report(len(batch))
        return Shard(example_id=ids, **{name: array.numpy() for name, array in arrays.items()})

    def check(self, rows: "Dataset", task: str) -> None:
        """Check the projection and two rows' gradients, in float32, before anything is stored (see `self_check`).

        Raises:
            ExtractionError: they are wrong, or silently zero.
            InputError: a row does not fit into the model.
        """
        check_projection(self.sketcher.projection, self.shapes)
        examples = sorted(self.model.encode(rows, task), key=token_count)
        chosen = [examples[0], examples[len(examples) // 2]]
        self._recompute(len(chosen) * token_count(chosen[1]) > self.tokens)

        def losses(part: list[Example]) -> Tensor:
            answers = self.model.answers(self.model.batch(part))
            return replace(answers, label=answers.least_likely()).losses()

        singles = [partial(lambda row: losses([row]).sum(), row) for row in chosen]
        check_gradients(self.sketcher, self.model, singles, lambda: losses(chosen))

    def _recompute(self, on: bool) -> None:
        self.recomputation.on = self.model.scores_in_parts = on

    def _sizes(self) -> dict[str, tuple[int, ...]]:
        d, probes = self.config.dimension, self.config.probes
        sizes: dict[str, tuple[int, ...]] = {"loss": (), "margin": (), "base_margin": (), "positions": ()}
        sizes |= {"gradient": (d,), "probe": (probes, d)}
        if self.config.hidden_states:
            sizes["hidden"] = (self.model.hidden_size,)
        return sizes

    def _batch(self, examples: list[Example], streams: list[str]) -> dict[str, Tensor]:
        """Return every array's rows of one batch.

        Args:
            examples: the rows.
            streams: names of the random numbers that draw each row's labels.
        """
        batch = self.model.batch(examples)
        answers = self._answers(batch, self.config.hidden_states)
        known = answers.detached()
        results = {"loss": known.losses(), "margin": known.margins(), "positions": known.positions}
        if known.hidden is not None:
            results["hidden"] = known.hidden
        results |= self._gradients(batch, answers, self._drawn(known, streams))
        return results | {"base_margin": self._base_margins(batch, results["margin"])}

    def _base_margins(self, batch: Mapping[str, Tensor], margins: Tensor) -> Tensor:
        if self.start is None:
            return margins
        with autocast(self.model.device, self.config.precision):
            return self.start.margins(batch)

    def _answers(self, batch: Mapping[str, Tensor], with_hidden: bool = False) -> Answers:
        self.sketcher.rows = len(batch["label"])
        with autocast(self.model.device, self.config.precision):
            return self.model.answers(batch, with_hidden)

    def _gradients(
        self, batch: Mapping[str, Tensor], answers: Answers, drawn: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return the gradients [n, d] of a batch's losses, and the probes [n, R, d] under drawn labels.

        A row's probe is sqrt(T) times its gradient where the drawn answer is the right one. The other rows need
        backward passes: with the whole batch or, where they are few, after a forward pass of their own.
        """
        others = torch.stack([(label != answers.label).any(1) for label in drawn]).any(0)
        few = float(others.float().mean()) <= FEW_ROWS
        gradient = self.sketcher.gradients(answers.losses().sum(), keep_graph=not few)
        as_right = answers.positions.sqrt().unsqueeze(1) * gradient
        probe = as_right.unsqueeze(1).repeat(1, len(drawn), 1)
        rows = (others if few else torch.ones_like(others)).nonzero().squeeze(1)
        if few and len(rows):
            answers = self._answers({name: values[rows] for name, values in batch.items()})
        for number, label in enumerate(drawn if len(rows) else []):
            losses = answers.probe_losses(label[rows])
            probe[rows, number] = self.sketcher.gradients(losses.sum(), keep_graph=number < len(drawn) - 1)
        return {"gradient": gradient, "probe": probe}

    def _drawn(self, answers: Answers, streams: list[str]) -> list[Tensor]:
        """Return the labels [n, C] that each probe draws from the model, by its answers without a graph.

        They are drawn position by position, by numbers that depend on the seed, the row, the probe and the position
        in the answer alone.
        """
        counts = answers.positions.tolist()
        drawn = []
        for probe in range(self.config.probes):
            draws = torch.zeros(answers.label.shape, dtype=torch.float64, device=answers.label.device)
            numbers = [
                uniforms(self.config.seed, f"{stream}/{probe}", count)
                for stream, count in zip(streams, counts, strict=True)
            ]
            draws[answers.is_answer] = torch.from_numpy(np.concatenate(numbers)).to(draws.device)
            drawn.append(answers.sample(draws))
        return drawn

    def _halve_batches(self, example_id: str, task: str, tokens: int, error: Exception) -> None:
        if self.recomputation.on:
            if others_hold_memory(self.model.device):
                raise error
            raise InputError(
                f"Row {example_id!r} of task {task!r} with its {tokens} tokens does not fit into the GPU's "
                "memory: expected a smaller max_length or base model, or a larger GPU."
            ) from error
        torch.cuda.empty_cache()
        self.tokens = tokens // 2


def batches_by_tokens(rows: Iterable[int], lengths: list[int], tokens: int) -> deque[list[int]]:
    """Cut rows into batches of like lengths with at most `tokens` padded tokens (at least one row) each.

    Args:
        rows: indices of the rows.
        lengths: number of tokens of each row, by index.
        tokens: most padded tokens of a batch.
    """
    batches: deque[list[int]] = deque()
    for row in sorted(rows, key=lambda row: (lengths[row], row)):
        if batches and (len(batches[-1]) + 1) * lengths[row] <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
