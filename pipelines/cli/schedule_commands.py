"""The command line's `gradsift schedule`: `apply`, `diff`, `list` and `delete` of recurring runs on Kubeflow."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradsift.components.shared.errors import InputError

if TYPE_CHECKING:
    from gradsift.pipelines.kubeflow.schedule_changes import Change

schedule = typer.Typer(no_args_is_help=True, help="Manage recurring runs on Kubeflow from a file.")
console = Console()

Host = Annotated[
    str | None,
    typer.Option(help="Address of Kubeflow Pipelines; else KF_PIPELINES_ENDPOINT, or the cluster around."),
]
Namespace = Annotated[str | None, typer.Option(help="Your namespace, where Kubeflow has many users.")]
File = Annotated[Path, typer.Option("--file", "-f", help="The schedules file.")]

DONE = {
    "create": "created",
    "replace": "replaced",
    "enable": "enabled",
    "disable": "disabled",
    "delete": "deleted",
    "clean": "unchanged",
    "keep": "unchanged",
}


@schedule.command()
def apply(file: File, host: Host = None, namespace: Namespace = None) -> None:
    """Create and replace recurring runs as the file says; delete those of its owner that it does not name."""
    from gradsift.pipelines.kubeflow.client import open_kubeflow
    from gradsift.pipelines.kubeflow.objects import compile_pipeline
    from gradsift.pipelines.kubeflow.schedule_changes import apply as make
    from gradsift.pipelines.kubeflow.schedules import read_schedules

    schedules = read_schedules(file)
    kubeflow = open_kubeflow(host, namespace)
    for change in make(kubeflow, schedules, compile_pipeline(kubeflow.release)):
        _print(f"{change.name}: {DONE[change.action]}{_when(change)}")


@schedule.command()
def diff(file: File, host: Host = None, namespace: Namespace = None) -> None:
    """Print what `apply` would do, without doing it."""
    from gradsift.pipelines.kubeflow.client import open_kubeflow
    from gradsift.pipelines.kubeflow.objects import compile_pipeline
    from gradsift.pipelines.kubeflow.schedule_changes import differences, plan, runs_of
    from gradsift.pipelines.kubeflow.schedules import read_schedules

    schedules = read_schedules(file)
    kubeflow = open_kubeflow(host, namespace)
    version = compile_pipeline(kubeflow.release).version
    for change in plan(schedules, version, runs_of(kubeflow, schedules.owner)):
        _print(f"{change.name}: {change.action}{_when(change)}")
        if change.wanted and change.action == "replace":
            old = next((run for run in change.surplus if run.enabled), change.surplus[-1])
            for line in differences(kubeflow, change.wanted, version, old):
                _print(f"    {line}")
        elif change.wanted and change.surplus:
            _print(f"    {len(change.surplus)} older or double recurring runs to delete")


@schedule.command(name="list")
def list_schedules(host: Host = None, namespace: Namespace = None) -> None:
    """List the recurring runs of the namespace; one without an owner came from no schedules file."""
    from gradsift.pipelines.kubeflow.client import open_kubeflow
    from gradsift.pipelines.kubeflow.schedule_changes import all_recurring_runs, owned

    table = Table("name", "state", "cron", "owner", "pipeline", "id", box=None)
    for run in all_recurring_runs(open_kubeflow(host, namespace)):
        ours = owned(run)
        timing = run.trigger and run.trigger.cron_schedule
        table.add_row(
            escape(run.display_name),
            (run.status or "").lower(),
            timing.cron if timing else "-",
            ours.owner if ours else "-",
            ours.version if ours else "-",
            run.recurring_run_id,
        )
    console.print(table)


@schedule.command()
def delete(
    name: Annotated[str | None, typer.Argument(help="Name of a schedule.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A schedules file: all that it names are deleted.")
    ] = None,
    host: Host = None,
    namespace: Namespace = None,
) -> None:
    """Delete recurring runs that came from a schedules file; runs that have started go on."""
    from gradsift.pipelines.kubeflow.client import open_kubeflow
    from gradsift.pipelines.kubeflow.schedule_changes import all_recurring_runs, owned
    from gradsift.pipelines.kubeflow.schedule_changes import delete as remove
    from gradsift.pipelines.kubeflow.schedules import read_schedules

    if (name is None) == (file is None):
        raise InputError("`gradsift schedule delete` expects either a name or -f with a schedules file.")
    schedules = read_schedules(file) if file else None
    kubeflow = open_kubeflow(host, namespace)
    runs = [run for run in map(owned, all_recurring_runs(kubeflow)) if run]
    if schedules:
        names = {schedule.name for schedule in schedules.schedules}
        chosen = [run for run in runs if run.owner == schedules.owner and run.name in names]
    else:
        chosen = [run for run in runs if run.name == name]
        owners = sorted({run.owner for run in chosen})
        if len(owners) > 1:
            raise InputError(f"The owners {', '.join(owners)} each have a schedule {name!r}: expected -f.")
    if not chosen:
        which = repr(name) if name else f"of {file}"
        raise InputError(f"There is no schedule {which} to delete: see `gradsift schedule list`.")
    for run in chosen:
        remove(kubeflow, run)
        _print(f"{run.name}: deleted")


def _when(change: "Change") -> str:
    return f" ({change.wanted.cron} {change.wanted.time_zone})" if change.wanted else ""


def _print(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
