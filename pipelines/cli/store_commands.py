"""The command line's `gradsift store`: `verify` and `info` of a gradient store."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
    track,
)
from rich.table import Column, Table

from gradsift.components.shared.errors import GradientStoreError

if TYPE_CHECKING:
    from gradsift.components.shared.gradient_store.gradient_format import StoreHeader
    from gradsift.components.shared.gradient_store.gradient_store import GradientStore

store = typer.Typer(no_args_is_help=True, help="Check a gradient store, or say what is in it.")
console = Console()

Uri = Annotated[str, typer.Argument(help="The gradient store: a folder or an s3:// address.")]


@store.command()
def verify(uri: Uri) -> None:
    """Read every shard of a gradient store and check all of it."""
    reader = _open(uri)
    total = sum(shard.bytes for shard in reader.shards)
    problems = []
    columns = (
        TextColumn("verify"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("verify", total=total)
        for shard, problem in reader.damage():
            progress.advance(bar, shard.bytes)
            problems += [problem] if problem else []
    problems += [f"The file {where} is not in the manifest." for where in reader.unlisted()]
    for problem in problems:
        console.print(escape(problem), soft_wrap=True, highlight=False)
    if problems:
        raise GradientStoreError(
            f"The gradient store at {uri} is damaged: {_count(len(problems), 'problem')} listed above."
        )
    rows = sum(shard.rows for shard in reader.shards)
    console.print(
        f"The gradient store at {escape(uri)} is whole: {_count(len(reader.shards), 'shard')}, "
        f"{_count(rows, 'row')}, {_count(total, 'byte')}.",
        soft_wrap=True,
        highlight=False,
    )


@store.command()
def info(uri: Uri) -> None:
    """Show what a gradient store was made of, and what it holds."""
    reader = _open(uri)
    facts = Table("fact", Column("value", overflow="fold"), show_header=False, box=None)
    for name, value in _facts(reader.digest, reader.header).items():
        facts.add_row(name, escape(value))
    console.print(facts)
    console.print(_contents(reader))


def _open(uri: str) -> "GradientStore":
    from gradsift.components.shared.gradient_store.gradient_store import MANIFEST, GradientStore, left_shard
    from gradsift.components.shared.storage.storage import open_storage

    storage = open_storage(uri)
    if storage.exists(MANIFEST):
        return GradientStore(uri)
    keys = storage.keys()
    if not keys:
        raise GradientStoreError(f"There is no gradient store at {uri}: expected a {MANIFEST}.")
    shards = [key for key in keys if key.endswith(".safetensors")]
    progress = track(
        shards, "count whole shards", console=console, transient=True, disable=not console.is_terminal
    )
    whole = sum(left_shard(storage, key) is not None for key in progress)
    raise GradientStoreError(
        f"The gradient store at {uri} is unfinished: it has no {MANIFEST}, and {_count(whole, 'whole shard')}; "
        "run the extraction again."
    )


def _facts(digest: str, header: "StoreHeader") -> dict[str, str]:
    facts = {"digest": digest, **header.model_dump()}
    facts["parameters"] = len(header.parameters)
    for name in ("projection", "versions"):
        facts[name] = ", ".join(f"{key} {value}" for key, value in facts[name].items())
    return {name.replace("_", " "): str(value) for name, value in facts.items()}


def _contents(reader: "GradientStore") -> Table:
    table = Table("task", "split")
    for name in ("rows", "shards", "bytes"):
        table.add_column(name, justify="right")
    parts = dict.fromkeys((shard.task, shard.split) for shard in reader.shards)
    for task, split in parts:
        shards = [shard for shard in reader.shards if (shard.task, shard.split) == (task, split)]
        counts = sum(shard.rows for shard in shards), len(shards), sum(shard.bytes for shard in shards)
        table.add_row(escape(task), split, *(f"{count:,}" for count in counts))
    return table


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
