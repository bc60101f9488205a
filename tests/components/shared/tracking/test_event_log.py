"""The log of a step: what is in it comes back, wherever a kill cut it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.tracking.event_log import append_event, read_events


@given(
    st.lists(st.dictionaries(st.text(), st.floats(allow_nan=False) | st.text(), max_size=3), max_size=5),
    st.floats(0, 1),
)
def test_a_log_cut_anywhere_reads_as_its_whole_events(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]], part: float
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    path.touch()
    for value in values:
        append_event(path, "note", values=value)
    content = path.read_bytes()
    assert [event["values"] for event in read_events(content)] == values
    cut = int(part * len(content))
    whole_lines = content[:cut].count(b"\n")
    assert [event["values"] for event in read_events(content[:cut])] == values[:whole_lines]


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"null",
        b"[1]",
        b"{}",
        b'{"time": 1}',
        b'{"time": "soon", "event": "progress"}',
        b'{"time": 1, "event": 5}',
        b'{"time": 1, "event": "start"}',
        b'{"time": 1, "event": "metric", "values": 3}',
        b'{"time": 1, "event": "metric", "values": {"loss": "x"}}',
        b'{"time": NaN, "event": "metric", "values": {"loss": 1}}',
        b'{"time": 1e999, "event": "metric", "values": {"loss": 1}}',
        b'{"time": 1, "event": "metric", "values": {"loss": 1}, "step": "x"}',
        b'{"time": 1, "event": "progress", "done": 1}',
        b'{"time": 1, "event": "end", "status": "odd", "seconds": 1}',
        b'{"time": 1, "event": "end", "status": "failed", "seconds": 1, "error": 5}',
        b'{"time": 1, "event": "model", "uri": "a"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_event_is_left_out(line: bytes) -> None:
    whole = b'{"time": 1.5, "event": "metric", "values": {"loss": 1}}\n'
    assert [event["values"] for event in read_events(whole + line + b"\n" + whole)] == [{"loss": 1}] * 2
