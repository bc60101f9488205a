"""Labels that a model reads as the same tokens, or does not know, are refused before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
from tiny_language_models import make_base

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.model import ModelConfig


def prepare(suite: Any, tmp_path: Path, labels: dict[str, str], **model: Any) -> None:
    suite.task("books")["labels"] = labels
    prepare_data(suite.config(), str(tmp_path / "run"), ModelConfig(**model))


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (
            {"0": "Good", "1": "good"},
            "reads 'Good' and 'good' as the same tokens, expected words that it can tell",
        ),
        ({"0": "bad", "1": "café", "2": "cafe"}, "reads 'café' and 'cafe' as the same tokens"),
        (
            {"0": "\U0001f600", "1": "\U0001f622"},
            "has no tokens for a part of '\U0001f600', expected words that",
        ),
        ({"0": "好", "1": "very 坏蛋"}, "has no tokens for a part of "),
    ],
)
def test_labels_that_an_encoder_cannot_tell_apart(
    suite: Any, tiny_encoder: Path, tmp_path: Path, labels: dict[str, str], fault: str
) -> None:
    with pytest.raises(InputError) as caught:
        prepare(suite, tmp_path, labels, base_model=str(tiny_encoder))
    assert str(caught.value).startswith(
        f"{suite.folder}/manifest.json: task 'books', field 'labels': the base model {str(tiny_encoder)!r} {fault}"
    )
    assert not (tmp_path / "run" / "data_preparation").exists()


def test_a_label_that_does_not_fit_is_refused(suite: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    labels = {"0": "one two three four five six", "1": "one two three four five seven"}
    prepare(suite, tmp_path, labels, base_model=str(tiny_encoder), max_length=8)
    with pytest.raises(
        InputError, match=r"'labels': 'one two .* six' needs 8 tokens: expected at most the 7"
    ):
        prepare(suite, tmp_path, labels, base_model=str(tiny_encoder), max_length=7)


def test_a_model_that_knows_case_tells_it_apart(suite: Any, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    prepare(suite, tmp_path, {"0": "Good", "1": "good"}, base_model=str(base), max_length=64)


def test_a_linear_head_does_not_read_labels(suite: Any, tiny_encoder: Path, tmp_path: Path) -> None:
    prepare(suite, tmp_path, {"0": "Good", "1": "good"}, base_model=str(tiny_encoder), head="linear")
