"""Which answers a language model can take, known from its tokenizer before anything is trained."""

from dataclasses import dataclass
from typing import Any

from gradsift.components.data_preparation.cleaning.label_tokens import check_label_tokens
from gradsift.components.shared.data.suites.task import AnyRow, Row, Task
from gradsift.components.shared.data.suites.task_suite import TaskSuite
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import find_tokenizer
from gradsift.components.shared.models.model_files import open_tokenizer
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
        """Return whether a row fits whole, with its text cut, or not at all.

        Raises:
            InputError: the chat template does not write the row as it is.
        """
        if isinstance(row, Row):
            question = classification_question(row.text, row.text_pair, task.labels, row.label)
        else:
            question = generation_question(row.prompt, row.completion, row.rationale)
        try:
            return self.format.fit(question)
        except InputError as error:
            raise InputError(f"Row {row.id!r} of task {task.name!r}: {error}") from error


def answer_limit(model: ModelConfig, suite: TaskSuite) -> AnswerLimit | None:
    """Return what the model's answers are limited by: None for an encoder, which chooses among labels.

    Raises:
        InputError: the base model is not found, of no known kind or has faulty files, cannot tell two labels of a
            task apart, or is an encoder that would have to write.
    """
    found = find_tokenizer(model.base_model)
    kind = kind_of(found.folder, model.base_model)
    tokenizer = open_tokenizer(found.folder, model.base_model, pads=kind == "encoder")
    if kind != "encoder" or model.head == "label_embedding":
        check_label_tokens(suite, tokenizer, model)
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
    return AnswerLimit(prompt_format, {"tokenizer": found.digest, **prompt_format.decided_by})
