"""Whether a model can tell the labels of a task apart: by the tokens that it reads in place of their words."""

from typing import TYPE_CHECKING

from gradsift.components.shared.data.suites.task_suite import TaskSuite
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.prompt_format import label_text
from gradsift.components.shared.parameters.model import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_label_tokens(suite: TaskSuite, tokenizer: "PreTrainedTokenizerBase", model: ModelConfig) -> None:
    """Check that the tokens of a task's labels are known and differ.

    Args:
        suite: the tasks as read.
        tokenizer: the base model's.
        model: the base model, and how many tokens of a text it reads.

    Raises:
        InputError: the tokenizer does not know a part of a label, or two labels of a task have the same tokens.
    """
    for task in suite.tasks:
        place = f"{suite.where}: task {task.name!r}, field 'labels'"
        labels: dict[tuple[int, ...], str] = {}
        for label in task.labels:
            tokens = tokenizer(label_text(label), truncation=True, max_length=model.max_length)["input_ids"]
            if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in tokens:
                raise InputError(
                    f"{place}: the base model {model.base_model!r} has no tokens for a part of {label!r}, "
                    "expected words that it knows."
                )
            other = labels.setdefault(tuple(tokens), label)
            if other != label:
                raise InputError(
                    f"{place}: the base model {model.base_model!r} reads {other!r} and {label!r} as the same "
                    "tokens, expected words that it can tell apart."
                )
