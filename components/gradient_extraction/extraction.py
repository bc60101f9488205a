"""Loss, margin, projected loss gradient and sampled-label probes of prepared rows."""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from gradsift.components.gradient_extraction.config import GradientExtractionConfig
from gradsift.components.gradient_extraction.counter_hash import uniform
from gradsift.components.gradient_extraction.per_example import GradientSketcher
from gradsift.components.gradient_extraction.self_check import check_gradients, check_projection
from gradsift.components.shared.encoder_classifier import EncoderClassifier
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradient_format import Shard
from gradsift.components.shared.precision import autocast

if TYPE_CHECKING:
    from datasets import Dataset


class GradientExtractor:
    """Computes shards of a gradient store for one model."""

    def __init__(
        self, model: EncoderClassifier, parameters: list[str], config: GradientExtractionConfig
    ) -> None:
        """Prepare `model` (at theta*) for the gradients of `parameters`.

        Raises:
            InputError: a parameter belongs to a kind of module whose gradient cannot be extracted.
        """
        self.model = model.eval()
        self.config = config
        self.device = model.classifier.weight.device
        self.tokens = config.tokens_per_batch
        self.shapes = {name: tuple(model.get_parameter(name).shape) for name in parameters}
        self.sketcher = GradientSketcher(
            model, parameters, config.dimension, config.projection_width, config.seed
        )

    def shard(self, rows: "Dataset", task: str, report: Callable[[int], None]) -> Shard:
        """Compute the shard of these rows; it does not depend on how they are batched.

        Where a batch does not fit into the GPU's memory, it and all later ones are halved.

        Args:
            rows: prepared rows of one task.
            task: the task.
            report: called with the number of rows after every batch.

        Raises:
            InputError: a single row does not fit into the GPU's memory.
        """
        encoded = self.model.encode_texts(rows["text"][:], rows["text_pair"][:])
        classes = torch.tensor(self.model.head.tasks[task])
        answers = classes[torch.tensor(rows["label"][:])]
        ids: list[str] = list(rows["id"])
        arrays = {name: torch.empty(len(ids), *size) for name, size in self._sizes().items()}
        lengths = [len(row["input_ids"]) for row in encoded]
        waiting = batches_by_tokens(range(len(ids)), lengths, self.tokens)
        while waiting:
            batch = waiting.popleft()
            inputs = self.model.pad([encoded[row] for row in batch])
            draws = torch.tensor([self._draws(task, ids[row]) for row in batch], dtype=torch.float64)
            try:
                results = self._batch(inputs, task, answers[batch], draws)
            except torch.OutOfMemoryError as error:
                self._halve_batches(ids[batch[0]], task, inputs["input_ids"].numel(), len(batch), error)
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
        """
        check_projection(self.sketcher.projection, self.shapes)
        encoded = self.model.encode_texts(rows["text"][:], rows["text_pair"][:])
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]["input_ids"]))
        chosen = [encoded[order[0]], encoded[order[len(order) // 2]]]
        index = self.model.head.task_names.index(task)

        def losses(part: list[dict[str, list[int]]]) -> Tensor:
            tasks = torch.full((len(part),), index, device=self.device)
            scores = self.model.scores(tasks, **self.model.pad(part))
            unlikely = scores.detach().nan_to_num(neginf=torch.inf).argmin(1)
            return functional.cross_entropy(scores, unlikely, reduction="none")

        singles = [partial(lambda row: losses([row]).sum(), row) for row in chosen]
        check_gradients(self.sketcher, self.model, singles, lambda: losses(chosen))

    def _sizes(self) -> dict[str, tuple[int, ...]]:
        d, probes = self.config.dimension, self.config.probes
        sizes: dict[str, tuple[int, ...]] = {"loss": (), "margin": (), "gradient": (d,), "probe": (probes, d)}
        if self.config.hidden_states:
            sizes["hidden"] = (self.model.classifier.in_features,)
        return sizes

    def _draws(self, task: str, example_id: str) -> list[float]:
        """Return the numbers in [0, 1) that pick a row's sampled labels; they depend on that row alone."""
        seed, probes = self.config.seed, self.config.probes
        return [uniform(seed, f"label/{task}/{example_id}/{probe}") for probe in range(probes)]

    def _batch(
        self, inputs: dict[str, Tensor], task: str, answers: Tensor, draws: Tensor
    ) -> dict[str, Tensor]:
        """Return every array's rows of one batch: one forward pass, and a backward pass a gradient."""
        answers, draws = answers.to(self.device), draws.to(self.device)
        self.sketcher.rows = len(answers)
        tasks = torch.full_like(answers, self.model.head.task_names.index(task))
        with autocast(self.device, self.config.precision):  # type: ignore[arg-type]  # checked by the config
            features = self.model.pooled(**inputs)
            logits = self.model.scores_of(tasks, features)
        scores = logits.detach()
        results = {
            "loss": functional.cross_entropy(scores, answers, reduction="none"),
            "margin": margins(scores, answers),
        }
        if self.config.hidden_states:
            results["hidden"] = features.detach()
        labels = [answers, *(sample_labels(scores, draws[:, probe]) for probe in range(draws.shape[1]))]
        gradients = []
        for index, label in enumerate(labels):
            total = functional.cross_entropy(logits, label, reduction="sum")
            gradients.append(self.sketcher.gradients(total, keep_graph=index + 1 < len(labels)))
        return {**results, "gradient": gradients[0], "probe": torch.stack(gradients[1:], dim=1)}

    def _halve_batches(self, example_id: str, task: str, tokens: int, rows: int, error: Exception) -> None:
        if rows == 1:
            raise InputError(
                f"Row {example_id!r} of task {task!r} with its {tokens} tokens does not fit into the GPU's "
                "memory: expected a smaller max_length or base model, or a larger GPU."
            ) from error
        torch.cuda.empty_cache()
        self.tokens = max(tokens // 2, 1)


def margins(logits: Tensor, answer: Tensor) -> Tensor:
    """Return log p/(1-p) of the right answers: their score minus the logsumexp of all others, [n].

    Args:
        logits: [n, n_classes], minus infinity where a class is not the task's.
        answer: right class of each row, [n].
    """
    right = logits.gather(1, answer.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, answer.unsqueeze(1), -torch.inf)
    return right - others.logsumexp(1)


def sample_labels(logits: Tensor, draws: Tensor) -> Tensor:
    """Return the class that a uniform number in [0, 1) picks from each row's distribution, [n]."""
    cumulative = functional.softmax(logits.double(), dim=-1).cumsum(-1)
    possible = torch.isfinite(logits)
    last = logits.shape[1] - 1 - possible.flip(1).int().argmax(1)
    return torch.minimum((cumulative <= draws.unsqueeze(1)).sum(1), last)


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
