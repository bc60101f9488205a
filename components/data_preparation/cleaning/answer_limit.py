"""Which answers a language model can take, known from its tokenizer before anything is trained."""

from dataclasses import dataclass
from typing import Any

from gradsift.components.data_preparation.cleaning.label_tokens import check_label_tokens
from gradsift.components.data_preparation.cleaning.unknown_tokens import check_unknown_tokens
from gradsift.components.shared.data.suites.task import AnyRow, Row, Task
from gradsift.components.shared.data.suites.task_suite import TaskSuite
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import find_tokenizer
from gradsift.components.shared.models.model_files import open_tokenizer, tokens_beyond, vocabulary_size
from gradsift.components.shared.models.model_kind import kind_of
from gradsift.components.shared.models.prompt_format import (
    Fit,
    PromptFormat,
    classification_question,
    generation_question,
)
from gradsift.components.shared.parameters.model import ModelConfig


@dataclass(frozen=True)
class AnswerLimit:
    """What a language model's tokenizer and prompt format leave room for.

    Attributes:
        format: the prompt format.
        decided_by: everything that decides it, JSON values.
    """

    format: PromptFormat
    decided_by: dict[str, Any]

    def fit(self, task: Task, row: AnyRow) -> Fit:
        """Return whether a row fits whole, with its text cut, or not at all."""
        if isinstance(row, Row):
            question = classification_question(row.text, row.text_pair, task.labels, row.label)
        else:
            question = generation_question(row.prompt, row.completion, row.rationale)
        return self.format.fit(question)


def answer_limit(model: ModelConfig, suite: TaskSuite) -> AnswerLimit | None:
    """Return what the model's answers are limited by: None for an encoder, which chooses among labels.

    Raises:
        InputError: the base model is not found, of no known kind or has faulty files, cannot tell two labels of a
            task apart, has no embedding for a token of a row, or is an encoder that would have to write.
    """
    found = find_tokenizer(model.base_model)
    kind = kind_of(found.folder, model.base_model)
    tokenizer = open_tokenizer(found.folder, model.base_model, pads=kind == "encoder")
    if kind != "encoder" or model.head == "label_embedding":
        check_label_tokens(suite, tokenizer, model)
    size = vocabulary_size(found.folder, model.base_model)
    check_unknown_tokens(suite, tokens_beyond(tokenizer, size), model.base_model)
    if kind == "encoder":
        for task in suite.tasks:
            if task.kind == "generation":
                raise InputError(
                    f"{suite.where}: task {task.name!r} is answered in free text, which the encoder "
                    f"{model.base_model!r} cannot: expected a causal or sequence-to-sequence language model."
                )
        return None
    prompt_format = PromptFormat.of(
        tokenizer,
        kind == "seq2seq",
        model.prompt_form,
        model.max_length,
        model.base_model,
    )
    decided_by = {"tokenizer": found.digest, "chat": prompt_format.chat, "max_length": model.max_length}
    return AnswerLimit(prompt_format, {"kind": kind, **decided_by})
