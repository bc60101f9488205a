"""What a language model learns to write of a row: a token at each position, `NO_ANSWER` between two answers."""

NO_ANSWER = -100
"""The label of a position that holds no answer, which is PyTorch's `ignore_index`."""


def last_answer(label: list[int]) -> list[int]:
    """Return the tokens of a row's last answer: what follows the last position without one."""
    if NO_ANSWER not in label:
        return label
    return label[-label[::-1].index(NO_ANSWER) :]
