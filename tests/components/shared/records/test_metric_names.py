"""Which metric a target is judged by, and how a sentence calls it."""

import pytest

from gradsift.components.shared.records.metric_names import metric_words, primary_metric


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["loss", "macro_f1", "accuracy"], "accuracy"),
        (["loss", "exact_match", "rouge_l", "numeric_match", "token_accuracy"], "numeric_match"),
        (["loss", "exact_match", "rouge_l", "token_accuracy"], "rouge_l"),
    ],
)
def test_a_target_is_judged_by_one_metric_whatever_their_order(names: list[str], expected: str) -> None:
    assert primary_metric(names) == expected


def test_a_metric_is_called_by_its_words() -> None:
    assert [metric_words(name) for name in ("rouge_l", "numeric_match")] == ["ROUGE-L", "numeric match"]
