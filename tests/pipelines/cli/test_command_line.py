"""What the command line says of itself."""

from importlib.metadata import version

from typer.testing import CliRunner

from gradsift.pipelines.cli.command_line import app


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"gradsift {version('gradsift')}\n")
