"""Which of the written answers the report shows."""

import numpy as np
from tiny_language_models import CONVERSATIONS

from gradsift.components.evaluation.answers.samples import EACH, draw_samples


def test_samples_show_some_right_and_some_wrong_rows_of_each_as_they_are() -> None:
    rows = {
        "id": [f"row {row}" for row in range(40)],
        "prompt": [f"prompt {row}" for row in range(40)],
        "references": [[f"answer {row}", "other"] for row in range(40)],
    }
    written = [f"written {row}" for row in range(40)]
    right = np.arange(40) % 3 == 0
    drawn = draw_samples(rows, written, right, seed=1)
    numbers = [int(each.id.split()[1]) for each in drawn]
    assert numbers == sorted(set(numbers))
    assert sum(each.right for each in drawn) == sum(not each.right for each in drawn) == EACH
    for row, each in zip(numbers, drawn, strict=True):
        assert (each.prompt, each.written) == (f"prompt {row}", f"written {row}")
        assert (each.expected, each.right) == ([f"answer {row}", "other"], bool(right[row]))
    assert drawn == draw_samples(rows, written, right, seed=1)
    assert drawn != draw_samples(rows, written, right, seed=2)
    assert len(draw_samples(rows, written, np.zeros(40, dtype=bool), seed=1)) == EACH
    assert not draw_samples(rows, [], np.zeros(0, dtype=bool), seed=1)


def test_a_conversation_is_shown_up_to_the_answer() -> None:
    rows = {**CONVERSATIONS, "references": [[text] for text in CONVERSATIONS["completion"]]}
    drawn = draw_samples(rows, ["ten"] * 4, np.arange(4) == 1, seed=1)
    assert [sample.prompt for sample in drawn] == [
        "User: one ?\nAssistant: two\nUser: three ?\nAssistant: four , five and six\nUser: seven ?\nAssistant:",
        "System: reply with one word\nUser: name the river\nAssistant:",
        "User: one ?\nAssistant: two\nUser: seven ?\nAssistant:",
        "two and two",
    ]
