"""The command line: `gradsift run`, `submit`, `schedule`, `fidelity`, `report`, `compile`, `store` and others."""

import json
import re
import shlex
import sys
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from gradsift.components.preflight.cost.hardware import PEAK_TFLOPS, UTILISATION, Hardware
from gradsift.components.shared.credentials import redact_output
from gradsift.components.shared.errors import GradsiftError, InputError, RunFailedError, TrainingError
from gradsift.components.shared.parameters.pipeline_settings import (
    PipelineSettings,
    defaults,
    form_of,
    known_parameters,
)
from gradsift.components.shared.process.protection import protect_process
from gradsift.components.shared.storage.addresses import is_remote
from gradsift.pipelines.cli.schedule_commands import Host, Namespace, schedule
from gradsift.pipelines.cli.store_commands import store

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(store, name="store")
app.add_typer(schedule, name="schedule")
console = Console()

Suite = Annotated[
    str | None,
    typer.Option(
        help="Task suite: 'demo' (the default), 'demo-lm', 'demo-groups', 'demo-periods', a folder, s3://, or a "
        "YAML file."
    ),
]
Target = Annotated[str | None, typer.Option(help="Name of the target task; sst2 by default.")]
BaseModel = Annotated[
    str | None, typer.Option(help="Folder, Hugging Face name, or packaged model; MiniLM by default.")
]
ParameterFile = Annotated[
    Path | None,
    typer.Option("--parameters", help="YAML file of parameters; see `gradsift parameters --yaml`."),
]
Example = Annotated[
    str | None,
    typer.Option(
        help="Take the parameters of a shipped example, 'groups' or 'periods'; --set changes single ones."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A pipeline parameter; may be repeated."),
]
Output = Annotated[str, typer.Option(help="Run root: a folder or an s3:// address.")]
DEFAULT_OUTPUT = "gradsift-run"


def _print_version(asked: bool) -> None:
    if asked:
        console.print(f"gradsift {version('gradsift')}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Choose which data sources to fine-tune on."""


@app.command()
def run(
    suite: Suite = None,
    target: Target = None,
    base_model: BaseModel = None,
    settings: Settings = None,
    file: ParameterFile = None,
    example: Example = None,
    output: Annotated[
        str | None, typer.Option(help=f"Run root: a folder or an s3:// address; {DEFAULT_OUTPUT} by default.")
    ] = None,
) -> None:
    """Run the whole pipeline on this machine. Start it again to continue a run that was stopped."""
    from gradsift.pipelines.local.local_run import run_pipeline

    options = {"suite": suite, "target": target, "base_model": base_model, "output_uri": output}
    given = _parameter_file(file, example)
    parameters = _all_parameters({"output_uri": DEFAULT_OUTPUT}, options, given, settings)
    run_pipeline({**parameters, "output_uri": _root(parameters["output_uri"])}, console)


@app.command()
def plan(
    suite: Suite = None,
    target: Target = None,
    base_model: BaseModel = None,
    settings: Settings = None,
    file: ParameterFile = None,
    example: Example = None,
    source_count: Annotated[
        int | None, typer.Option(min=1, help="Number of sources, to plan without a suite.")
    ] = None,
    train_rows: Annotated[
        int | None, typer.Option(min=2, help="Total number of train rows, to plan without a suite.")
    ] = None,
    held_out_rows: Annotated[
        int,
        typer.Option(
            min=1, help="Validation rows of the target, and as many test rows, to plan without a suite."
        ),
    ] = 1000,
    tokens_per_row: Annotated[
        float | None, typer.Option(min=1, help="Mean number of tokens per row, to plan without a suite.")
    ] = None,
    model_parameters: Annotated[
        float | None,
        typer.Option(min=1, help="Number of parameters, such as 8e9, to plan without a base model."),
    ] = None,
    peak_tflops: Annotated[
        float, typer.Option(min=1e-6, help="Peak rate of a GPU (or the CPU), in 10^12 operations per second.")
    ] = PEAK_TFLOPS,
    utilisation: Annotated[
        float, typer.Option(min=0.001, max=1, help="Share of the peak rate that is reached.")
    ] = UTILISATION,
) -> None:
    """Print what a run will cost: rows, tokens, steps, operations, time and pods of each phase."""
    from gradsift.components.preflight.cost.table import sentences, table
    from gradsift.pipelines.cli.cost_plan import SuiteNumbers, plan_run

    options = {"suite": suite, "target": target, "base_model": base_model}
    given = _parameter_file(file, example)
    pipeline = PipelineSettings.of(_all_parameters({}, options, given, settings))
    numbers = SuiteNumbers.of(source_count, train_rows, held_out_rows, tokens_per_row)
    cost = plan_run(pipeline, numbers, None if model_parameters is None else int(model_parameters))
    hardware = Hardware(pipeline.resources, peak_tflops, utilisation)
    titles, *lines = table(cost, hardware)
    shown = Table(
        *(
            Column(title, justify="right" if position else "left", no_wrap=True)
            for position, title in enumerate(titles)
        ),
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for line in lines:
        shown.add_row(*line)
    console.print(shown)
    for sentence in sentences(cost, hardware):
        console.print(sentence, markup=False, highlight=False)


@app.command()
def fidelity(
    suite: Suite = None,
    target: Target = None,
    base_model: BaseModel = None,
    subsets: Annotated[int, typer.Option(help="Random subsets, beside none and all.")] = 40,
    seeds: Annotated[int, typer.Option(help="Fine-tuning runs per subset.")] = 2,
    start: Annotated[
        str, typer.Option(help="Weights that are fine-tuned: base, meta (theta*) or both.")
    ] = "base",
    truth: Annotated[
        Path | None, typer.Option(help="Truth file to compare with, instead of training its subsets.")
    ] = None,
    save_truth: Annotated[
        Path | None, typer.Option(help="Truth file to write from the study's runs.")
    ] = None,
    settings: Settings = None,
    file: ParameterFile = None,
    output: Annotated[str, typer.Option(help="Folder of the study.")] = "gradsift-fidelity",
) -> None:
    """Compare estimates with the true losses of subsets. Start it again to continue a study that was stopped."""
    from gradsift.components.fidelity.report import MARKDOWN
    from gradsift.components.fidelity.study import Study, run_study
    from gradsift.components.fidelity.truth import read_truth, write_truth
    from gradsift.pipelines.local.fidelity_steps import LiveStudySteps
    from gradsift.pipelines.local.local_runner import lock

    study = Study(subsets=subsets, seeds=seeds, start=start)
    if save_truth and (truth or len(study.starts) > 1):
        raise InputError("Option save-truth is given: expected runs from one start, and no option truth.")
    if is_remote(output):
        raise InputError(f"The folder of the study is {output!r}: expected a local one.")
    known = read_truth(truth) if truth else None
    options = {"suite": suite, "target": target, "base_model": base_model}
    command = shlex.join(["gradsift", *sys.argv[1:]])
    folder = Path(output).absolute()
    with lock(folder):
        steps = LiveStudySteps(str(folder), console)
        parameters = _all_parameters({}, options, file, settings)
        truths = run_study(study, parameters, folder, command, steps, known)
    if save_truth:
        write_truth(truths[0], save_truth)
    console.print("\n" + (folder / MARKDOWN).read_text(), markup=False, highlight=False, soft_wrap=True)


@app.command()
def report(
    output: Output = DEFAULT_OUTPUT,
    to: Annotated[Path, typer.Option(help="File to write.")] = Path("report.html"),
) -> None:
    """Write the report of the newest finished run to a file."""
    from gradsift.components.shared.storage.local import atomic_file
    from gradsift.pipelines.local.local_run import newest_report

    content = newest_report(_root(output))
    with atomic_file(to) as path:
        path.write_bytes(content)
    console.print(f"Report: {to}")


@app.command(name="compile")
def compile_to(
    to: Annotated[Path, typer.Option(help="File to write.")] = Path("pipeline.yaml"),
    release: Annotated[
        str,
        typer.Option(
            "--for",
            help="Release of Kubeflow Pipelines; one before 2.16 takes no drop-down lists in the form.",
        ),
    ] = "2.17",
) -> None:
    """Compile the pipeline to YAML for Kubeflow."""
    from gradsift.components.shared.storage.local import atomic_file
    from gradsift.pipelines.kubeflow.objects import compile_pipeline

    if not re.match(r"[0-9]+\.[0-9]+", release):
        raise InputError(f"The release in --for is {release!r}: expected one such as 2.15.")
    compiled = compile_pipeline(release)
    with atomic_file(to) as path:
        path.write_text(compiled.yaml)
    console.print(f"Pipeline: {to}")


@app.command()
def upload(host: Host = None, namespace: Namespace = None) -> None:
    """Upload the pipeline to Kubeflow with its description, as a version named by its content."""
    from gradsift.pipelines.kubeflow.client import open_kubeflow
    from gradsift.pipelines.kubeflow.objects import compile_pipeline, ensure_version

    kubeflow = open_kubeflow(host, namespace)
    pipeline = compile_pipeline(kubeflow.release)
    version = ensure_version(kubeflow, pipeline)
    url = kubeflow.url(f"pipelines/details/{version.pipeline_id}/version/{version.pipeline_version_id}")
    console.print(f"Pipeline: {url}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def submit(
    settings: Settings = None,
    file: ParameterFile = None,
    host: Host = None,
    namespace: Namespace = None,
    experiment: Annotated[str, typer.Option(help="Experiment of the run.")] = "gradsift",
    run_name: Annotated[
        str | None, typer.Option(help="Name of the run; else its target and the time.")
    ] = None,
    service_account: Annotated[str | None, typer.Option(help="Service account of its pods.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end.")] = False,
) -> None:
    """Run the pipeline on Kubeflow; its version there is named by a hash of its content."""
    from gradsift.pipelines.kubeflow import submission
    from gradsift.pipelines.kubeflow.client import open_kubeflow
    from gradsift.pipelines.kubeflow.objects import compile_pipeline
    from gradsift.pipelines.parameters import given_parameters

    parameters = given_parameters({}, file, settings)
    PipelineSettings.of(parameters)
    kubeflow = open_kubeflow(host, namespace)
    pipeline = compile_pipeline(kubeflow.release)
    run_id = submission.submit(kubeflow, pipeline, form_of(parameters), experiment, run_name, service_account)
    url = kubeflow.url(f"runs/details/{run_id}")
    console.print(f"Run: {url}", markup=False, highlight=False, soft_wrap=True)
    if wait:
        submission.follow(kubeflow, run_id, pipeline, console)


@app.command()
def doctor(
    output: Annotated[str | None, typer.Option(help="Run root to try: a folder or an s3:// address.")] = None,
) -> None:
    """Check this installation, MLflow and a run root; exit code 2 if something is wrong."""
    from gradsift.pipelines.cli.doctor import examine

    findings = examine(None if output is None else _root(output))
    for finding in findings:
        mark = "[green]✓[/]" if finding.fine else "[red]✗[/]"
        console.print(f"{mark} {finding.check:10} {escape(finding.words)}", highlight=False, soft_wrap=True)
    if not all(finding.fine for finding in findings):
        raise typer.Exit(2)


@app.command()
def parameters(
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print a file to edit, for --parameters.")] = False,
) -> None:
    """List the pipeline's parameters with their defaults."""
    if as_yaml:
        from gradsift.pipelines.parameters import parameters_yaml

        console.print(parameters_yaml(), end="", markup=False, highlight=False, soft_wrap=True)
        return
    for name, parameter in known_parameters().items():
        default = escape(json.dumps(parameter.default))
        console.print(f"[bold]{name}[/] = {default}\n    {escape(parameter.description)}", highlight=False)


@app.command(name="mlflow-sync")
def mlflow_sync(output: Output = DEFAULT_OUTPUT) -> None:
    """Send to MLflow what it does not have yet of the runs under a run root."""
    from gradsift.components.shared.storage.storage import open_storage
    from gradsift.components.shared.tracking.event_log import FOLDER
    from gradsift.components.shared.tracking.mlflow_sync import sync

    if not open_storage(_root(output)).keys(f"{FOLDER}/"):
        raise InputError(f"There is no run in {output}: expected the output of `gradsift run`.")
    result = sync(_root(output))
    console.print(f"Sent {result.events} events of {result.runs} runs.")


def _parameter_file(file: Path | None, example: str | None) -> Path | None:
    """Return the file of parameters that was given, or that of the example."""
    from gradsift.pipelines.parameters import example_file

    if example is None:
        return file
    if file is not None:
        raise InputError("Options parameters and example are both given: expected one of them.")
    return example_file(example)


def _all_parameters(
    own_defaults: dict[str, Any], options: dict[str, Any], file: Path | None, settings: list[str] | None
) -> dict[str, Any]:
    """Return all of the pipeline's parameters, checked; a command may have defaults of its own."""
    from gradsift.pipelines.parameters import given_parameters

    parameters = {**defaults(), **own_defaults, **given_parameters(options, file, settings)}
    PipelineSettings.of(parameters)
    return parameters


def _root(output: str) -> str:
    return output if is_remote(output) else str(Path(output).absolute())


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise InputError("The current folder is gone: expected the command to be run in another.") from error


def main() -> None:
    """Run the command line.

    An error is one sentence: exit code 2 for what the user can put right, 1 for a step that failed otherwise.
    """
    protect_process()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # for a terminal without the characters that we print
    try:
        _check_current_folder()
        app()
    except GradsiftError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"[bold red]Error:[/] {escape(str(error))}", highlight=False
        )
        sys.exit(1 if isinstance(error, TrainingError | RunFailedError) else 2)
    except Exception:
        redact_output()  # again, as typer has put its own hook for tracebacks in place
        raise


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, which `python -m` puts there
    main()
