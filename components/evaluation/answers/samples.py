"""Draws test rows to show with what the chosen model wrote for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradsift.components.shared.data.prepared_data import has_conversations
from gradsift.components.shared.models.prompt_format import questions
from gradsift.components.shared.records.evaluation_results import Sample

EACH = 4
"""Rows that are shown of those that the model got right, and of those that it got wrong."""


def draw_samples(rows: Any, written: Sequence[str], right: npt.NDArray[np.bool_], seed: int) -> list[Sample]:
    """Draw up to `EACH` rows that are right and as many that are wrong, in the order of the rows.

    Args:
        rows: the target's test rows (see `prepared_data`).
        written: what the model wrote for each, rationales included.
        right: whether it counts as right [n_rows].
        seed: seed of the draw.
    """
    order = np.random.default_rng(seed).permutation(len(right))
    prompts = rows["prompt"]
    if has_conversations(rows):
        prompts = [question.transcript for question in questions(rows, [])]
    drawn = [*order[right[order]][:EACH], *order[~right[order]][:EACH]]
    return [
        Sample(
            id=rows["id"][row],
            prompt=prompts[row],
            expected=rows["references"][row],
            written=written[row],
            right=right[row],
        )
        for row in sorted(int(row) for row in drawn)
    ]
