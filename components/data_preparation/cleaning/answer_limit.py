"""Which rows a model can take, known from its tokenizer before anything is trained."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gradsift.components.data_preparation.cleaning.label_tokens import (
    check_label_tokens,
    check_labels_fit,
    label_lengths,
)
from gradsift.components.data_preparation.cleaning.max_length import measured_max_length
from gradsift.components.data_preparation.cleaning.unknown_tokens import check_unknown_tokens
from gradsift.components.shared.data.prepared_data import Split
from gradsift.components.shared.data.suites.task import AnyRow, Row, Task
from gradsift.components.shared.data.suites.task_suite import TaskSuite
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import find_tokenizer
from gradsift.components.shared.models.model_files import (
    open_config,
    open_tokenizer,
    tokens_beyond,
    vocabulary_size,
)
from gradsift.components.shared.models.model_kind import kind_of, max_tokens_of
from gradsift.components.shared.models.prompt_format import (
    Fit,
    PromptFormat,
    Question,
    classification_question,
    generation_question,
)
from gradsift.components.shared.parameters.model import ModelConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

MEASURED: tuple[Split, ...] = ("train", "val")
"""Splits whose rows decide how many tokens are read."""


class RowLengths:
    """How many tokens each row of a suite needs; a row is rendered and tokenised once, when it is asked for."""

    def __init__(
        self, suite: TaskSuite, tokenizer: "PreTrainedTokenizerBase", form: PromptFormat | None
    ) -> None:
        """Measure nothing yet.

        Args:
            suite: the tasks as read.
            tokenizer: the base model's.
            form: a language model's prompt format; None for an encoder.
        """
        self._suite, self._tokenizer, self._format = suite, tokenizer, form
        self._lengths: dict[tuple[str, str], int] = {}

    def of(self, task: Task, row: AnyRow) -> int:
        """Return the number of tokens that a language model needs for a row.

        Raises:
            InputError: the chat template does not write the row as it is.
        """
        assert self._format is not None
        key = (task.name, row.id)
        if key not in self._lengths:
            try:
                self._lengths[key] = self._format.length(_question(task, row))
            except InputError as error:
                raise InputError(
                    f"{self._suite.where}: row {row.id!r} of task {task.name!r}: {error}"
                ) from error
        return self._lengths[key]

    @cached_property
    def measured(self) -> "NDArray[np.int64]":
        """The lengths of all train and val rows [n]; raises InputError as `of` does."""
        return np.fromiter(self._measured(), dtype=np.int64)

    def _measured(self) -> Iterator[int]:
        for task in self._suite.tasks:
            rows = [row for split in MEASURED for row in task.splits.get(split, [])]
            if self._format is None:
                yield from _encoder_lengths(rows, self._tokenizer)
            else:
                yield from (self.of(task, row) for row in rows)


@dataclass(frozen=True)
class AnswerLimit:
    """What a model's tokenizer and prompt format leave room for.

    Attributes:
        max_length: largest number of tokens of a row.
        lengths: what the suite's rows need.
        format: a language model's prompt format; None for an encoder, which chooses among labels.
        decided_by: everything that decides which rows stay and what is recorded of them, JSON values.
    """

    max_length: int
    lengths: RowLengths
    format: PromptFormat | None
    decided_by: dict[str, Any]

    def fit(self, task: Task, row: AnyRow) -> Fit:
        """Return whether a row fits a language model whole, with its text cut, or not at all.

        Raises:
            InputError: the chat template does not write the row as it is.
        """
        assert self.format is not None
        if self.lengths.of(task, row) <= self.max_length:
            return "whole"
        return "cut" if self.format.has_room(_question(task, row)) else "too_long"

    @property
    def sentence(self) -> str:
        """How many tokens of a row are read, for readers."""
        share = np.mean(self.lengths.measured <= self.max_length)
        return (
            f"At most {self.max_length} tokens of a row are read (`model_max_length`): {share:.1%} of the "
            "suite's train and val rows have no more."
        )


def answer_limit(model: ModelConfig, suite: TaskSuite) -> AnswerLimit:
    """Return what limits the rows that a model takes.

    Raises:
        InputError: the base model is not found, of no known kind or has faulty files, cannot tell two labels of a
            task apart or has no room for one, has no embedding for a token of a row, or is an encoder that would
            have to write.
    """
    found = find_tokenizer(model.base_model)
    kind = kind_of(found.folder, model.base_model)
    tokenizer = open_tokenizer(found.folder, model.base_model, pads=kind == "encoder")
    size = vocabulary_size(found.folder, model.base_model)
    check_unknown_tokens(suite, tokens_beyond(tokenizer, size), model.base_model)
    if kind == "encoder":
        _check_labelled(suite, model.base_model)
        form, decided_by = None, {}
    else:
        form = PromptFormat.of(
            tokenizer, kind == "seq2seq", model.prompt_form, model.max_length, model.base_model
        )
        decided_by = {"tokenizer": found.digest, **form.decided_by}

    labels: list[tuple[str, int]] = []
    if form is not None or model.head == "label_embedding":
        check_label_tokens(suite, tokenizer, model.base_model)
        labels = list(label_lengths(suite, tokenizer, form))
    lengths = RowLengths(suite, tokenizer, form)
    for_labels = max((length for _, length in labels), default=0)
    most = max_tokens_of(open_config(found.folder, model.base_model))
    max_length = model.max_length or measured_max_length(lengths.measured, for_labels, most)
    check_labels_fit(labels, max_length)
    return AnswerLimit(
        max_length=max_length,
        lengths=lengths,
        format=form and replace(form, max_length=max_length),
        decided_by={**decided_by, "max_length": max_length},
    )


def _check_labelled(suite: TaskSuite, base_model: str) -> None:
    for task in suite.tasks:
        if task.kind == "generation":
            raise InputError(
                f"{suite.where}: task {task.name!r} is answered in free text, which the encoder "
                f"{base_model!r} cannot: expected a causal or sequence-to-sequence language model."
            )


def _encoder_lengths(rows: list[AnyRow], tokenizer: "PreTrainedTokenizerBase") -> Iterator[int]:
    """Yield the number of tokens of each row, those without a second text first."""
    for paired in (False, True):
        asked = [row.asked for row in rows if (row.asked[1] is not None) == paired]
        if asked:
            texts, pairs = map(list, zip(*asked, strict=True))
            yield from map(len, tokenizer(texts, pairs if paired else None)["input_ids"])


def _question(task: Task, row: AnyRow) -> Question:
    if isinstance(row, Row):
        return classification_question(row.text, row.text_pair, task.labels, row.label)
    return generation_question(row.prompt, row.completion, row.rationale, row.earlier, row.all_turns)
