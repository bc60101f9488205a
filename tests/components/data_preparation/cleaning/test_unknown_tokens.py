"""A row with a token that the model has no embedding for is refused before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
from tiny_language_models import make_base
from transformers import AutoTokenizer

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.model import ModelConfig


def test_a_token_outside_the_table_is_refused_only_where_a_row_holds_it(suite: Any, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<image>"])
    tokenizer.save_pretrained(base)
    rows = [{"id": str(number), "prompt": f"say {number}", "completion": "one"} for number in range(3)]
    suite.manifest["tasks"].append({"name": "saying", "splits": {"train": {"file": "saying.jsonl"}}})
    suite.write_rows("saying.jsonl", rows)
    model = ModelConfig(base_model=str(base))
    prepare_data(suite.config(), str(tmp_path / "run"), model)
    suite.write_rows(
        "saying.jsonl", [*rows, {"id": "seen", "prompt": "what is <image> ?", "completion": "one"}]
    )
    with pytest.raises(
        InputError,
        match=r"row 'seen' of task 'saying' holds '<image>', a token that the base model .* has no",
    ):
        prepare_data(suite.config(), str(tmp_path / "run"), model)
