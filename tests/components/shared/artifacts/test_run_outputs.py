"""The outputs that one step writes down and the next reads by a key."""

from pathlib import Path

import pytest

from gradsift.components.shared.artifacts.run_outputs import read_outputs, write_outputs
from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.errors import InputError, NotFoundError, StorageError


@pytest.fixture
def outputs(tmp_path: Path) -> dict[str, StepOutput]:
    made = produce(str(tmp_path), "data_preparation", {}, lambda folder: {"rows": 3, "suite": "demo"})
    return {"data": made, "gradients": StepOutput("s3://bucket/store", "0f" * 32, {"base_uri": "s3://other"})}


def test_they_come_back_as_they_were_marked_as_found(outputs: dict[str, StepOutput], tmp_path: Path) -> None:
    root = str(tmp_path)
    found = read_outputs(write_outputs(outputs, root), root)
    assert list(found) == list(outputs)
    for name, output in outputs.items():
        assert (found[name].uri, found[name].digest, found[name].metadata) == (
            output.uri,
            output.digest,
            output.metadata,
        )
        assert found[name].reused


def test_the_key_is_short_and_of_the_content(outputs: dict[str, StepOutput], tmp_path: Path) -> None:
    key = write_outputs(outputs, str(tmp_path / "one"))
    assert len(key) == 16
    assert write_outputs(dict(reversed(outputs.items())), str(tmp_path / "two")) == key
    assert write_outputs({"data": outputs["data"]}, str(tmp_path / "two")) != key


def test_what_is_missing_or_altered_is_named(outputs: dict[str, StepOutput], tmp_path: Path) -> None:
    root = str(tmp_path)
    key = write_outputs(outputs, root)
    [file] = tmp_path.glob("run_outputs/*.json")
    file.write_text(file.read_text().replace("demo", "odem"))
    with pytest.raises(StorageError, match=rf"/run_outputs/{key}\.json was altered: delete it"):
        read_outputs(key, root)
    file.unlink()
    with pytest.raises(
        NotFoundError, match=rf"/run_outputs/{key}\.json does not exist: run the pipeline again"
    ):
        read_outputs(key, root)
    with pytest.raises(InputError, match="is not allowed"):
        read_outputs("../../elsewhere", root)
