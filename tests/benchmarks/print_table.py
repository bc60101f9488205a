"""Prints what a run of the benchmarks found as one table, and as one line of JSON at the end.

Usage: python tests/benchmarks/print_table.py RESULTS.json, the file of pytest's `--benchmark-json`. A benchmark
leaves its figures in `extra_info`: under `rows` as one row or more, else as one row.
"""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def rows_of(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of all benchmarks in the order in which they ran."""
    rows = []
    for benchmark in results["benchmarks"]:
        info = dict(benchmark["extra_info"])
        seconds = benchmark["stats"]["median"]
        rows += info.pop("rows", [{"benchmark": benchmark["name"], "seconds": seconds, **info}])
    return rows


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Return a table with a column for every figure."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table()
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_words(row.get(name)) for name in columns))
    return table


def _words(value: Any) -> str:
    if value is None:
        return ""
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,}"
        if isinstance(value, int | float)
        else str(value)
    )


def main(path: Path) -> None:
    """Print the table of a results file, then the JSON line."""
    rows = rows_of(json.loads(path.read_text()))
    Console(width=max(Console().width, 160)).print(table_of(rows))
    print(json.dumps(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
