"""Whether a model can tell the labels of a task apart, and has room for them: by the tokens that it reads."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradsift.components.shared.data.suites.task_suite import TaskSuite
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.prompt_format import PromptFormat, classification_question, label_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHORTEST_TEXT = "a"


def check_label_tokens(suite: TaskSuite, tokenizer: "PreTrainedTokenizerBase", base_model: str) -> None:
    """Check that the tokens of a task's labels are known and differ.

    Args:
        suite: the tasks as read.
        tokenizer: the base model's.
        base_model: the base model's name, for errors.

    Raises:
        InputError: the tokenizer does not know a part of a label, or two labels of a task have the same tokens.
    """
    for task in suite.tasks:
        place = f"{suite.where}: task {task.name!r}, field 'labels'"
        labels: dict[tuple[int, ...], str] = {}
        for label in task.labels:
            tokens = tokenizer(label_text(label))["input_ids"]
            if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in tokens:
                raise InputError(
                    f"{place}: the base model {base_model!r} has no tokens for a part of {label!r}, "
                    "expected words that it knows."
                )
            other = labels.setdefault(tuple(tokens), label)
            if other != label:
                raise InputError(
                    f"{place}: the base model {base_model!r} reads {other!r} and {label!r} as the same "
                    "tokens, expected words that it can tell apart."
                )


def label_lengths(
    suite: TaskSuite, tokenizer: "PreTrainedTokenizerBase", form: PromptFormat | None
) -> Iterator[tuple[str, int]]:
    """Yield where each label of each task is declared, and the tokens that the model needs for it.

    Args:
        suite: the tasks as read.
        tokenizer: the base model's.
        form: a language model's prompt format, by which a label is the answer to a text and all options; None for
            an encoder, which reads the label alone.
    """
    for task in suite.tasks:
        for number, label in enumerate(task.labels):
            where = f"{suite.where}: task {task.name!r}, field 'labels': {label!r}"
            if form is None:
                yield where, len(tokenizer(label_text(label))["input_ids"])
            else:
                yield where, form.length(classification_question(SHORTEST_TEXT, None, task.labels, number))


def check_labels_fit(lengths: list[tuple[str, int]], max_length: int) -> None:
    """Check that the model has room for every label.

    Raises:
        InputError: one of `label_lengths` is larger than `max_length`.
    """
    for where, length in lengths:
        if length > max_length:
            raise InputError(
                f"{where} needs {length} tokens: expected at most the {max_length} of model_max_length, or shorter "
                "labels."
            )
