"""Whatever stands in an input file, it is taken and usable, or refused in one sentence that names the place."""

import copy
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.data.suites.suite_hub import HubSuite
from gradsift.components.shared.documents.json_document import load_json_object
from gradsift.components.shared.errors import GradsiftError, RunFailedError, TrainingError
from gradsift.components.shared.models.model_files import open_config
from gradsift.components.shared.models.model_kind import check_model_settings, kind_of
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings, known_parameters
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.pipelines.kubeflow.schedules import read_schedules
from gradsift.pipelines.live_table import read_states, render, summary_lines
from gradsift.pipelines.parameters import read_parameters

MAX_BYTES = 2 * 2**30
FUZZED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SPECIAL = st.sampled_from(
    [
        "",
        " ",
        "\u200b",
        "a\nb",
        "\x00",
        "../x",
        "t.train",
        "-rf",
        "x" * 300,
        "0",
        "2020-13-45",
        0,
        -1,
        10**400,
        2**32,
        float("nan"),
        float("inf"),
        True,
        None,
    ]
)
VALUES = st.recursive(
    SPECIAL | st.text(max_size=8) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
MARK = "@@"
SNIPPETS = [
    b"&a [*a]",
    b"!!int x",
    b"!!int ''",
    b"!!bool abc",
    b"!!float x",
    b"!!timestamp x",
    b"!!set {a}",
    b"!!binary YQ==",
    b"2020-13-45",
    b"9" * 5000,
    b"[" * 400,
    b"{a: 1, a: 2}",
    b'"\\ud800"',
    b'"\\UFFFFFFFF"',
    b'"a\\0b"',
    b".nan",
]
LABELS = {"0": "bad", "1": "good"}
MANIFEST: dict[str, Any] = {
    "suite": "s",
    "tasks": [
        {
            "name": "t",
            "labels": LABELS,
            "splits": {split: {"file": f"t.{split}.jsonl", "rows": 4} for split in ("train", "val", "test")},
        },
        {"name": "a", "kind": "classification", "labels": LABELS, "splits": {"train": {"file": "a.jsonl"}}},
        {"name": "d", "derived_from": "a", "corruption": "shuffle_labels", "seed": 1},
    ],
}
HUB: dict[str, Any] = {
    "suite": "s",
    "tasks": [
        {
            "name": "t",
            "dataset": "o/n",
            "text": "x",
            "label": "y",
            "labels": {0: "bad", 1: "good"},
            "splits": {"train": "train[:5]", "val": "val"},
            "revision": "abc",
        },
        {"name": "d", "derived_from": "t", "corruption": "flip_labels"},
    ],
}
SCHEDULES: dict[str, Any] = {
    "owner": "me",
    "schedules": [
        {
            "name": "n",
            "cron": "0 2 * * *",
            "time_zone": "UTC",
            "start": "2026-01-01T00:00:00+01:00",
            "parameters": {"target": "a", "sources": ["b"], "fine_tune_learning_rate": 1e-4},
        }
    ],
}
PARAMETERS: dict[str, Any] = {
    "target": "a",
    "sources": ["b"],
    "fine_tune_learning_rate": 1e-4,
    "fine_tune_steps": 5,
    "model_train_embeddings": True,
    "platform_node_selector": {"zone": "x"},
    "platform_tolerations": [{"key": "x"}],
}
NAMES = st.sampled_from(sorted(known_parameters()))
EVENTS: list[dict[str, Any]] = [
    {
        "time": 1.0,
        "event": "start",
        "params": {"confirm_runs": 3, "calibrate_runs": 0, "promote_model_name": "m"},
        "run_name": "n",
    },
    {"time": 2.0, "event": "progress", "done": 1, "total": 5, "unit": "rows"},
    {"time": 3.0, "event": "metric", "values": {"test_loss": 0.5, "runs": 3.0, "groups": 1.0}, "step": 1},
    {
        "time": 4.0,
        "event": "artifact",
        "uri": "/x",
        "digest": "d",
        "name": "report.html",
        "artifact_path": "",
    },
    {"time": 5.0, "event": "end", "status": "failed", "seconds": 3.0, "error": "e", "input_error": True},
]
CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "num_labels": 2,
    "num_experts": None,
    "dtype": "float32",
}
LOGS = ("pipeline", "preflight", "calibration-plan", "calibration-0", "freshness", "evaluation")
ROW = {"id": "r", "text": "some text", "text_pair": "more", "label": 1}


def places(document: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document."""
    yield place
    inner = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    for key, value in inner:
        yield from places(value, (*place, key))


@st.composite
def altered(draw: st.DrawFn, document: Any) -> Any:
    """Return a document in which a value is another one, is gone, or stands under another name."""
    document = copy.deepcopy(document)
    place = draw(st.sampled_from(list(places(document))))
    if not place:
        return draw(VALUES)
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    way = draw(st.sampled_from(["replace", "delete", "rename"]))
    old = holder.pop(place[-1])
    if way != "delete":
        key = draw(st.text(max_size=5)) if way == "rename" and isinstance(holder, dict) else place[-1]
        value = draw(VALUES) if way == "replace" else old
        if isinstance(holder, dict):
            holder[key] = value
        else:
            holder.insert(place[-1], value)
    return document


def json_of(document: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Return the bytes of JSON documents, now and then with some bytes changed."""
    whole = document.map(lambda value: json.dumps(value).encode())
    return whole | st.builds(spoilt, whole, st.integers(0, 10**6), st.binary(max_size=4))


def yaml_of(document: Any) -> st.SearchStrategy[bytes]:
    """Return the bytes of altered YAML documents: with another value, with changed bytes, with a snippet."""
    whole = altered(document).map(dumped)
    marked = st.sampled_from(list(places(document))).map(
        lambda place: dumped(replaced(document, place, MARK))
    )
    return (
        whole
        | st.builds(spoilt, whole, st.integers(0, 10**6), st.binary(max_size=4))
        | st.builds(
            lambda content, snippet: content.replace(b"'@@'", snippet), marked, st.sampled_from(SNIPPETS)
        )
    )


def dumped(document: Any) -> bytes:
    return yaml.safe_dump(document, allow_unicode=False).encode()


def replaced(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """Return a document with another value at a path."""
    if not place:
        return value
    changed = copy.copy(document)
    changed[place[0]] = replaced(document[place[0]], place[1:], value)
    return changed


def spoilt(content: bytes, place: int, inserted: bytes) -> bytes:
    place %= len(content) + 1
    return content[:place] + inserted + content[place + len(inserted) :]


def taken(use: Callable[[], Any], place: str) -> Any:
    """Return what `use` returns, or None where it refuses its input as it should."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = refusal = None
    try:
        result = use()
    except GradsiftError as error:
        refusal = error
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MAX_BYTES
    if refusal is not None:
        assert not isinstance(
            refusal, TrainingError | RunFailedError
        )  # these alone have another exit code than 2
        assert place in str(refusal)
        assert "\n" not in str(refusal)
        assert str(refusal).endswith((".", "?"))
        assert len(str(refusal)) < 2000
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "suite"
    folder.mkdir()
    for name in ("t.train", "t.val", "t.test", "a"):
        rows = [
            json.dumps({"id": f"{name}{n}", "text": f"{name} text {n}", "label": n % 2}) for n in range(4)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    return folder


def prepare(folder: Path) -> Any:
    root = folder.parent / "run"
    shutil.rmtree(root, ignore_errors=True)
    output = taken(
        lambda: prepare_data(DataPreparationConfig(suite=str(folder), target="t"), str(root)), str(folder)
    )
    if output is None:
        assert not (root / "data_preparation").exists()
        return None
    data = PreparedData(fetch(output))
    for task in data.tasks:
        for split, rows in task.rows.items():
            assert len(data.split(task.name, split)) == rows > 0
    return output


def test_the_suite_that_is_altered_is_usable(folder: Path) -> None:
    assert prepare(folder) is not None


@FUZZED
@given(content=json_of(altered(MANIFEST)) | st.binary(max_size=30))
def test_any_manifest(folder: Path, content: bytes) -> None:
    try:
        (folder / "manifest.json").write_bytes(content)
        prepare(folder)
    finally:
        (folder / "manifest.json").write_text(json.dumps(MANIFEST))


@FUZZED
@given(row=json_of(altered(ROW)) | st.binary(max_size=30))
def test_any_row(folder: Path, row: bytes) -> None:
    whole = (folder / "a.jsonl").read_bytes()
    try:
        (folder / "a.jsonl").write_bytes(whole + b"\n" + row)
        prepare(folder)
    finally:
        (folder / "a.jsonl").write_bytes(whole)


@FUZZED
@given(content=yaml_of(HUB) | st.binary(max_size=30))
def test_any_suite_in_yaml(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "suite.yaml"
    file.write_bytes(content)
    suite = taken(lambda: HubSuite(str(file)), str(file))
    assert suite is None or all(task.name for task in suite.manifest.tasks)


@FUZZED
@given(content=yaml_of(SCHEDULES) | st.binary(max_size=30))
def test_any_schedules_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "schedules.yaml"
    file.write_bytes(content)
    found = taken(lambda: read_schedules(file), str(file))
    for schedule in found.schedules if found else []:
        PipelineSettings.of(schedule.parameters)
        assert len(schedule.digest("v")) == 16


@FUZZED
@given(content=yaml_of(PARAMETERS) | st.dictionaries(NAMES, VALUES, max_size=3).map(dumped))
def test_any_parameter_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    parameters = taken(lambda: read_parameters(file), str(file))
    if parameters is not None:
        made = taken(lambda: PipelineSettings.of(parameters), "")
        assert made is None or isinstance(made, PipelineSettings)


@FUZZED
@given(parameters=st.dictionaries(NAMES, VALUES, max_size=3))
def test_any_parameters_of_a_form(parameters: dict[str, Any]) -> None:
    settings = taken(lambda: PipelineSettings.of(parameters), "")
    assert settings is None or isinstance(settings, PipelineSettings)


@FUZZED
@given(content=st.binary(max_size=40) | json_of(VALUES))
def test_any_json_object(content: bytes) -> None:
    found = taken(lambda: load_json_object(content, "file.json"), "file.json")
    assert found is None or isinstance(found, dict)


@FUZZED
@given(lines=altered(EVENTS), count=st.integers(1, len(EVENTS)))
def test_any_line_of_a_log(lines: Any, count: int) -> None:
    lines = lines[:count] if isinstance(lines, list) else [lines]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    states = read_states({name: read_events(content) for name in LOGS})
    Console(file=StringIO()).print(render(states, 0.0), *summary_lines(states))


@FUZZED
@given(fields=altered(CONFIG))
def test_any_configuration_of_a_model(tmp_path: Path, fields: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(fields))
    config = taken(lambda: open_config(tmp_path, "m"), "base model 'm'")
    if config is not None and taken(lambda: kind_of(tmp_path, "m"), "base model 'm'") == "encoder":
        taken(lambda: check_model_settings(ModelConfig(base_model="m", max_length=8), "encoder", config), "m")
