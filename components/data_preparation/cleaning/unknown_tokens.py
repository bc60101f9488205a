"""Whether a row holds a token that the tokenizer knows and the model has no embedding for."""

import json
from collections.abc import Sequence

from gradsift.components.shared.data.suites.task_suite import TaskSuite
from gradsift.components.shared.errors import InputError


def check_unknown_tokens(suite: TaskSuite, tokens: Sequence[str], name: str) -> None:
    """Check that no row holds a token outside the embedding table.

    Args:
        suite: the tasks as read.
        tokens: the tokens outside the table, such as one for images in a model of texts; mostly none.
        name: the base model, for errors.

    Raises:
        InputError: a row holds one of them.
    """
    if not tokens:
        return
    for task in suite.tasks:
        for rows in task.splits.values():
            for row in rows:
                texts = json.dumps(row, ensure_ascii=False)
                if found := next((token for token in tokens if token in texts), None):
                    raise InputError(
                        f"{suite.where}: row {row.id!r} of task {task.name!r} holds {found!r}, a token that the "
                        f"base model {name!r} has no embedding for: expected a text without it."
                    )
