"""What the task hands to the promotion of a model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gradsift.components.promotion import entry_point, step
from gradsift.components.shared.artifacts.run_outputs import write_outputs
from gradsift.components.shared.artifacts.step_output import StepOutput


@pytest.mark.parametrize("cut", [False, True])
def test_the_next_run_compares_its_data_with_those_from_before_sources_were_cut(
    cut: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted: list[str] = []

    def promote(config: Any, data: StepOutput, *_: Any) -> Any:
        promoted.append(data.digest)
        return SimpleNamespace(promoted=True, words="")

    monkeypatch.setattr(step, "promote", promote)
    monkeypatch.setattr(entry_point, "summary_of", lambda *_: "done")
    names = ["meta_model", "fine_tuned_model", "evaluation", *(["whole_data"] if cut else [])]
    outputs = {name: StepOutput(name, name, {}) for name in names}
    outputs["data"] = StepOutput("data", "cut data" if cut else "whole_data", {})
    settings = {"output_uri": str(tmp_path), "config": {"model_name": "reviews"}, "digest": "settings"}
    summary = SimpleNamespace(path=str(tmp_path / "summary"))
    entry_point.conclude(summary, write_outputs(outputs, str(tmp_path)), settings)
    assert promoted == ["whole_data"]
