"""Prints what a run of the benchmarks found as tables, and as one line of JSON at the end.

Usage: python tests/benchmarks/print_table.py RESULTS.json, the file of pytest's `--benchmark-json`. A benchmark
leaves its figures in `extra_info`: under `rows` as one row or more, else as one row. Rows with the same figures
make one table. A single row, and each row of a table that would be too wide, is printed with a line per figure.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 100
"""Columns of the terminal in which every table can be read."""


def rows_of(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of all benchmarks in the order in which they ran."""
    rows = []
    for benchmark in results["benchmarks"]:
        info = dict(benchmark["extra_info"])
        seconds = benchmark["stats"]["median"]
        rows += info.pop("rows", [{"benchmark": benchmark["name"], "seconds": seconds, **info}])
    return rows


def tables_of(rows: Sequence[dict[str, Any]], console: Console) -> Iterator[Table]:
    """Yield tables of the rows in which the console breaks no word and no number."""
    groups: defaultdict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row)].append(row)
    for group in groups.values():
        names = [name.replace("_", " ") for name in group[0]]
        table = _table([names, *(list(map(_text, row.values())) for row in group)])
        unlimited = console.options.update(max_width=sys.maxsize)
        if len(group) > 1 and console.measure(table, options=unlimited).minimum <= console.width:
            yield table
        else:
            for row in group:
                yield _table([[name, _text(value)] for name, value in zip(names, row.values(), strict=True)])


def _table(lines: list[list[str]]) -> Table:
    """Return a table whose first line is its head; numbers lie on the right."""
    head, *others = lines
    table = Table()
    for column, name in enumerate(head):
        numbers = all(line[column][:1].isdigit() for line in others)
        table.add_column(name, justify="right" if numbers else "left")
    for line in others:
        table.add_row(*line)
    return table


def _text(value: Any) -> str:
    if isinstance(value, float) and abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def main(path: Path) -> None:
    """Print the tables of a results file, then the JSON line."""
    rows = rows_of(json.loads(path.read_text()))
    console = Console(width=WIDTH)
    for table in tables_of(rows, console):
        console.print(table)
    print(json.dumps(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
