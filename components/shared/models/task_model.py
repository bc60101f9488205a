"""What every step asks of a model, whatever its kind: rows in, scores at answer positions out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.blocks import Block
from gradsift.components.shared.models.labels import last_answer
from gradsift.components.shared.models.precision import autocast
from gradsift.components.shared.models.reached_weights import unreached_weights
from gradsift.components.shared.parameters.training import Precision

Batch = Mapping[str, Tensor]
"""Padded examples: tensors [n, ...], as `TaskModel.collate` makes them."""
Example = dict[str, Any]
"""One row as a model takes it: lists of integers or integers, without padding, the right answer included."""
Rows = Any
"""Prepared rows: a `datasets.Dataset`, or anything that gives a column by its name."""
MLFLOW_MODEL = "gradsift.components.shared.models.mlflow_model"
"""The module with which MLflow serves a trained model."""
READ_BATCH = 8
READ_TOKENS = 2048
"""Most tokens that are read at a time, unless one row has more; READ_BATCH rows of up to 256 tokens."""
ANY_TEXT = "a few words"


class TaskModel(nn.Module, ABC):
    """A model that is trained on the rows of many tasks.

    Attributes:
        tokenizer: its tokenizer.
        scores_in_parts: whether a language model's answers keep hidden states and compute scores from them.
    """

    tokenizer: PreTrainedTokenizerBase
    scores_in_parts = False

    @abstractmethod
    def encode(self, rows: Rows, task: str) -> list[Example]:
        """Return the examples of a task's prepared rows, in their order; each has `input_ids` among others.

        Raises:
            InputError: a row does not fit the model.
        """

    @property
    @abstractmethod
    def encoding(self) -> dict[str, Any]:
        """What decides `encode` beside the rows, the tokenizer and the code: JSON values."""

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Pad examples to one batch of tensors [n, ...] on the CPU."""

    @abstractmethod
    def answers(self, batch: Batch, with_hidden: bool = False) -> Answers:
        """Return the scores of a batch (on the model's device) at its answer positions.

        Args:
            batch: what `batch` returns.
            with_hidden: whether the rows' mean hidden states are wanted too.
        """

    @property
    @abstractmethod
    def task_names(self) -> list[str]:
        """Names of the tasks that the model knows."""

    @abstractmethod
    def label_names(self, task: str) -> list[str]:
        """Return the names of a task's labels; none where it has none, or the model does not know it."""

    @abstractmethod
    def save(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write the model into `folder`, as safetensors, so that `open_model` opens it and MLflow serves it.

        Args:
            folder: where to.
            state: the weights, where they have been gathered from several processes; else the module's own.
        """

    @abstractmethod
    def examples_of(self, texts: Sequence[str]) -> list[Example]:
        """Return examples that read these texts, each with some answer: what tries a model without data."""

    @abstractmethod
    def freeze_embeddings(self) -> None:
        """Exclude embedding tables from training."""

    @abstractmethod
    def blocks(self) -> list[Block]:
        """Return all parameters in blocks: embeddings, the layers in the order of the forward pass, the head."""

    def freeze_untrained(self, train_embeddings: bool) -> None:
        """Exclude what no text reaches from training, and embedding tables unless they are to be trained."""
        training = self.training
        losses = self.eval().answers(self.batch(self.examples_of([ANY_TEXT]))).losses()
        for parameter in unreached_weights(self, losses.sum()):
            parameter.requires_grad_(False)
        if not train_embeddings:
            self.freeze_embeddings()
        self.train(training)

    @property
    @abstractmethod
    def shared(self) -> nn.Module:
        """The part that all tasks share, without any head that is trained for some of them."""

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """Width h of the hidden states."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return `collate`'s tensors on the model's device."""
        return {name: value.to(self.device) for name, value in self.collate(examples).items()}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights as PyTorch does; frozen ones may be missing, for checkpoints of a training leave them out.

        Raises:
            RuntimeError: a weight that is trained is missing, or there is one that the model has not.
        """
        frozen = {
            name: parameter
            for name, parameter in self.named_parameters(remove_duplicate=False)
            if not parameter.requires_grad and name not in state_dict
        }
        return super().load_state_dict({**state_dict, **frozen}, strict, assign)

    @torch.no_grad()
    def read(self, examples: Sequence[Example], precision: Precision) -> Iterator[tuple[list[int], Answers]]:
        """Yield what the model says of the right answers, a few examples of like lengths at a time.

        Args:
            examples: what `encode` returned.
            precision: what the model computes in.

        Yields:
            The places of some examples, and their answers.
        """
        for alike in by_length(examples, READ_BATCH):
            at_once = max(1, READ_TOKENS // max(token_count(examples[row]) for row in alike))
            for start in range(0, len(alike), at_once):
                rows = alike[start : start + at_once]
                with autocast(self.device, precision):
                    answers = self.answers(self.batch([examples[row] for row in rows]))
                yield rows, answers

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """Return `loss`, the mean over rows of each row's loss in nats, and the answers' `logits` and `label`."""
        answers = self.answers(batch)
        return {"loss": answers.losses().mean(), "logits": answers.logits, "label": answers.label}


def pretrained_in(model: nn.Module) -> PreTrainedModel:
    """Return transformers' model in a model, whatever adapters or heads are around it."""
    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))


def token_count(example: Example) -> int:
    """Return the number of tokens that a model computes for an example: what it reads, and what it writes."""
    answer = example["label"]
    return len(example["input_ids"]) + (len(last_answer(answer)) if isinstance(answer, list) else 0)


def by_length(examples: Sequence[Example], batch_size: int) -> Iterable[list[int]]:
    """Yield batches of row indices, rows of like length together, so that little padding is computed."""
    order = sorted(range(len(examples)), key=lambda row: (len(examples[row]["input_ids"]), row))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
