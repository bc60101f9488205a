"""The tables of benchmarks can be read at 100 columns, whatever figures they hold."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.print_table import WIDTH, main

METHODS = [
    {
        "workload": "MiniLM, real weights",
        "threads": threads,
        "method": "loss",
        "ratio": 0.9249,
        "cpu_ms": 25.8,
    }
    for threads in (1, 2)
]
MEMORY = [{"workload": "MiniLM, real weights", "method": "loss", "peak_mb": 1234567.0, "peak_ratio": 1.09}]
NAMES = ("plain", "checked", "signed", "mapped", "sent")
MEASURED = [f"{state}_{name}" for state in ("cold", "warm") for name in NAMES]
WIDE = [dict.fromkeys((f"{name}_gigabytes_per_second" for name in MEASURED), 12.345 + row) for row in (0, 1)]


def printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra_infos: list[dict[str, Any]]
) -> list[str]:
    """Return the lines that are printed for one benchmark each, called `reading`."""
    benchmarks = [{"name": "reading", "stats": {"median": 0.5}, "extra_info": info} for info in extra_infos]
    (tmp_path / "results.json").write_text(json.dumps({"benchmarks": benchmarks}))
    main(tmp_path / "results.json")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= WIDTH
    return lines


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("┃", "│").strip("│").split("│")]


def test_rows_with_the_same_figures_make_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(tmp_path, capsys, [{"rows": METHODS[:1]}, {"rows": MEMORY}, {"rows": METHODS[1:]}])
    table = [cells(line) for line in lines]
    head = ["workload", "threads", "method", "ratio", "cpu ms"]
    start = table.index(head)
    assert table[start + 2 : start + 4] == [
        ["MiniLM, real weights", threads, "loss", "0.925", "25.8"] for threads in ("1", "2")
    ]
    assert ["peak mb", "1,234,567"] in table
    assert json.loads(lines[-1]) == [METHODS[0], *MEMORY, METHODS[1]]


@pytest.mark.parametrize("infos", [[{"rows": WIDE}], WIDE])
def test_a_wide_table_is_printed_figure_by_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], infos: list[dict[str, Any]]
) -> None:
    table = [cells(line) for line in printed(tmp_path, capsys, infos)]
    for name in MEASURED:
        words = f"{name.replace('_', ' ')} gigabytes per second"
        assert [row for row in table if row[0] == words] == [[words, "12.3"], [words, "13.3"]]


def test_a_benchmark_without_rows_is_one_of_its_name_and_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = [cells(line) for line in printed(tmp_path, capsys, [{"peak_memory_gib": 1.5}])]
    assert ["benchmark", "reading"] in table
    assert ["seconds", "0.5"] in table
    assert ["peak memory gib", "1.5"] in table
