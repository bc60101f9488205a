"""What one model says of the target's validation and test rows, whatever its kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradsift.components.shared.data.prepared_data import PreparedData, Split
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.precision import autocast
from gradsift.components.shared.models.task_model import Example, Rows, TaskModel
from gradsift.components.shared.parameters.training import Precision

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ModelAnswers:
    """Losses of right answers, and the answers that the model gives itself.

    Attributes:
        val_loss: loss of each validation row in nats [n_val]; of a written answer the mean over its tokens.
        test_loss: that of each test row [n_test].
        labels: log-probabilities of the target's labels for the test rows [n_test, n_labels], where it has labels.
        token_accuracy: share of the tokens of each right completion that had the highest score after those before
            them [n_test], where answers are written.
        written: what the model writes for each test row by greedy decoding, rationales included.
    """

    val_loss: FloatArray
    test_loss: FloatArray
    labels: FloatArray | None = None
    token_accuracy: FloatArray | None = None
    written: list[str] | None = None


def answer(
    model: TaskModel,
    data: PreparedData,
    precision: Precision,
    report: Callable[[int], None] = lambda rows: None,
) -> ModelAnswers:
    """Let a model answer the target's validation and test rows.

    Args:
        model: the model.
        data: the prepared data.
        precision: what the model computes in.
        report: called with the number of rows written after every batch, where answers are written.
    """
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(model, EncoderClassifier):
        return _classified(model, data, precision)
    assert isinstance(model, LanguageModel)
    val = model.encode(data.split(data.target, "val"), data.target)
    val_loss = _read(model, val, precision).losses.numpy()
    rows = data.split(data.target, "test")
    if data.task(data.target).labels:
        losses, labels = _label_scores(model, rows, data, precision)
        return ModelAnswers(val_loss, losses[_right(rows)].numpy(), labels=labels.numpy())
    test = model.encode(rows, data.target)
    read = _read(model, test, precision)
    longest = max(len(example["label"]) for example in [*val, *_train_examples(model, data)])
    with autocast(model.device, precision):
        written = model.generate(test, longest, report)
    return ModelAnswers(
        val_loss, read.losses.numpy(), token_accuracy=read.token_accuracy.numpy(), written=written
    )


def _classified(model: EncoderClassifier, data: PreparedData, precision: Precision) -> ModelAnswers:
    splits: tuple[Split, Split] = ("val", "test")
    rows = [data.split(data.target, split) for split in splits]
    val, test = (model.log_probabilities(each, data.target, precision=precision) for each in rows)
    val_loss, test_loss = (-logs[_right(each)].numpy() for logs, each in zip((val, test), rows, strict=True))
    return ModelAnswers(val_loss, test_loss, labels=test.numpy())


@dataclass(frozen=True)
class _Read:
    """Rows whose completions were read: mean loss, share of right tokens and number of tokens of each, [n]."""

    losses: Tensor
    token_accuracy: Tensor
    tokens: Tensor


def _read(model: LanguageModel, examples: Sequence[Example], precision: Precision) -> _Read:
    """Read the right answers after their prompts (teacher forcing)."""
    read = _Read(*torch.empty(3, len(examples)))
    for rows, answers in model.read(examples, precision):
        read.losses[rows] = answers.losses().cpu()
        read.token_accuracy[rows] = answers.hits().cpu()
        read.tokens[rows] = answers.positions.float().cpu()
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


def _right(rows: Rows) -> tuple[Tensor, Tensor]:
    """Return the places [n], [n] of the right labels in an array [n, n_labels]."""
    labels = torch.tensor(rows["label"][:])
    return torch.arange(len(labels)), labels


def _train_examples(model: LanguageModel, data: PreparedData) -> list[Example]:
    return model.encode(data.split(data.target, "train"), data.target)
