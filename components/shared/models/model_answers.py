"""Lets one model, whatever its kind, answer the target's validation and test rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradsift.components.shared.data.prepared_data import PreparedData, Split
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.models.labels import last_answer
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.precision import autocast
from gradsift.components.shared.models.task_model import Example, Rows, TaskModel
from gradsift.components.shared.parameters.training import Precision
from gradsift.components.shared.records.run_answers import HeldOutAnswers, ValidationAnswers

READ_ROWS = 1000
"""Rows whose answers' lengths are counted at a time."""


def validation_answers(model: TaskModel, data: PreparedData, precision: Precision) -> ValidationAnswers:
    """Let a model in evaluation mode answer the target's validation rows."""
    rows = data.split(data.target, "val")
    if isinstance(model, EncoderClassifier):
        labels = model.log_probabilities(rows, data.target, precision=precision)
        right = torch.tensor(rows["label"][:])
        losses = -labels[torch.arange(len(right)), right]
        return ValidationAnswers(losses.numpy(), (labels.argmax(1) == right).numpy())
    read = _read(_language_model(model), model.encode(rows, data.target), precision)
    return ValidationAnswers(read.losses.numpy(), read.right.numpy())


def held_out_answers(
    model: TaskModel,
    data: PreparedData,
    precision: Precision,
    report: Callable[[int], None] = lambda rows: None,
) -> HeldOutAnswers:
    """Let a model in evaluation mode answer the target's test inputs; a row's right label is not read.

    Args:
        model: the model.
        data: the prepared data.
        precision: what the model computes in.
        report: called with the number of rows written after every batch, where answers are written.
    """
    rows = data.split(data.target, "test")
    if isinstance(model, EncoderClassifier):
        labels = model.log_probabilities(rows, data.target, precision=precision)
        return HeldOutAnswers(labels=labels.numpy(), label_losses=(-labels).numpy())
    model = _language_model(model)
    if data.task(data.target).labels:
        losses, labels = _label_scores(model, rows, data, precision)
        return HeldOutAnswers(labels=labels.numpy(), label_losses=losses.numpy())
    test = model.encode(rows, data.target)
    read = _read(model, test, precision)
    with autocast(model.device, precision):
        written = model.generate(test, _longest_known_answer(model, data), report)
    return HeldOutAnswers(
        losses=read.losses.numpy(), token_accuracy=read.token_accuracy.numpy(), written=written
    )


def _language_model(model: TaskModel) -> LanguageModel:
    assert isinstance(model, LanguageModel)
    return model


def _longest_known_answer(model: LanguageModel, data: PreparedData) -> int:
    """Return the number of tokens of the longest answer among the target's train and validation rows."""
    splits: tuple[Split, Split] = ("train", "val")
    batches = (batch for split in splits for batch in data.split(data.target, split).iter(READ_ROWS))
    examples = (example for batch in batches for example in model.encode(batch, data.target))
    return max(len(last_answer(example["label"])) for example in examples)


@dataclass(frozen=True)
class _Read:
    """Rows whose completions were read.

    Attributes:
        losses: mean loss over the tokens of each [n].
        token_accuracy: share of its tokens that had the highest score [n].
        tokens: number of its tokens [n].
        right: whether every token had the highest score [n].
    """

    losses: Tensor
    token_accuracy: Tensor
    tokens: Tensor
    right: Tensor


def _read(model: LanguageModel, examples: Sequence[Example], precision: Precision) -> _Read:
    """Read the right answers after their prompts (teacher forcing)."""
    losses, token_accuracy, tokens = torch.empty(3, len(examples))
    read = _Read(losses, token_accuracy, tokens, torch.empty(len(examples), dtype=torch.bool))
    for rows, answers in model.read(examples, precision):
        read.losses[rows] = answers.losses().cpu()
        read.token_accuracy[rows] = answers.hits().cpu()
        read.tokens[rows] = answers.positions.float().cpu()
        read.right[rows] = answers.right().cpu()
    return read


def _label_scores(
    model: LanguageModel, rows: Rows, data: PreparedData, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Return the loss of every label's name as the answer, and the log-probabilities of labels, [n, n_labels].

    A label's probability is that of its name, written to the end, over the sum of those of all names.
    """
    texts = {name: rows[name][:] for name in ("id", "text", "text_pair")}
    each = []
    for label in range(len(data.task(data.target).labels)):
        examples = model.encode({**texts, "label": [label] * len(texts["id"])}, data.target)
        each.append(_read(model, examples, precision))
    losses = torch.stack([read.losses for read in each], dim=1)
    tokens = torch.stack([read.tokens for read in each], dim=1)
    return losses, torch.log_softmax(-losses * tokens, dim=1)
