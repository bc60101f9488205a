"""Loss, margin, projected loss gradient and sampled-label probes of prepared rows."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gradsift.components.gradient_extraction.config import GradientExtractionConfig
from gradsift.components.gradient_extraction.counter_hash import uniform
from gradsift.components.gradient_extraction.per_example import GradientSketcher
from gradsift.components.shared.encoder_classifier import EncoderClassifier
from gradsift.components.shared.gradient_store import Shard
from gradsift.components.shared.precision import autocast

if TYPE_CHECKING:
    from datasets import Dataset


class GradientExtractor:
    """Computes shards of a gradient store for one model."""

    def __init__(
        self, model: EncoderClassifier, parameters: list[str], config: GradientExtractionConfig
    ) -> None:
        """Prepare `model` (at theta*) for the gradients of `parameters`."""
        self.model = model.eval()
        self.config = config
        self.device = model.classifier.weight.device
        self.sketcher = GradientSketcher(
            model, parameters, config.dimension, config.projection_width, config.seed
        )

    def shard(self, rows: "Dataset", task: str, report: Callable[[int], None]) -> Shard:
        """Compute the shard of these rows; it does not depend on how they are batched.

        Args:
            rows: prepared rows of one task.
            task: the task.
            report: called with the number of rows after every batch.
        """
        encoded = self.model.encode(rows["text"][:], rows["text_pair"][:])
        classes = torch.tensor(self.model.head.tasks[task], device=self.device)
        answers = classes[torch.tensor(rows["label"][:], device=self.device)]
        ids: list[str] = list(rows["id"])
        count, config = len(ids), self.config
        loss, margin = torch.empty(count), torch.empty(count)
        gradient = torch.empty(count, config.dimension)
        probe = torch.empty(count, config.probes, config.dimension)
        draws = np.array(
            [[uniform(config.seed, f"label/{task}/{name}/{r}") for r in range(config.probes)] for name in ids]
        )
        task_index = self.model.head.task_names.index(task)
        for batch in batches_by_tokens([len(row["input_ids"]) for row in encoded], config.tokens_per_batch):
            self.sketcher.rows = len(batch)
            inputs = self.model.pad([encoded[row] for row in batch])
            tasks = torch.full((len(batch),), task_index, device=self.device)
            with autocast(self.device, config.precision):  # type: ignore[arg-type]  # checked by the config
                logits = self.model.scores(tasks, **inputs)
            answer = answers[batch]
            losses = functional.cross_entropy(logits, answer, reduction="none")
            gradient[batch] = self.sketcher.gradients(losses.sum(), keep_graph=True).cpu()
            for index in range(config.probes):
                sampled = sample_labels(
                    logits.detach(), torch.from_numpy(draws[batch, index]).to(self.device)
                )
                total = functional.cross_entropy(logits, sampled, reduction="sum")
                keep = index + 1 < config.probes
                probe[batch, index] = self.sketcher.gradients(total, keep_graph=keep).cpu()
            loss[batch] = losses.detach().cpu()
            margin[batch] = margins(logits.detach(), answer).cpu()
            report(len(batch))
        return Shard(
            example_id=ids,
            loss=loss.numpy(),
            margin=margin.numpy(),
            gradient=gradient.numpy(),
            probe=probe.numpy(),
        )


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


def batches_by_tokens(lengths: list[int], tokens: int) -> list[list[int]]:
    """Cut rows into batches of like lengths with at most `tokens` padded tokens (at least one row) each."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if batches and (len(batches[-1]) + 1) * lengths[row] <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
