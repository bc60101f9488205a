"""Runs one task of the pipeline in its own process, whose arguments are MAIN, PLACE and those of KFP.

MAIN is KFP's own program, which reads the task's inputs, calls the component's function and writes its outputs. It
would take the function's source from the command. Here it takes the `component.py` of this installation, at a place
below `components/`, as a source would stand nine times in the workflow of a run, whose size has a limit.
"""

import os
import runpy
import sys
import textwrap
from importlib.resources import files
from pathlib import Path

from gradsift.components.shared.errors import GradsiftError
from gradsift.components.shared.process.protection import protect_process

WIDTH = 60
"""Characters of a line of the log that Kubeflow's UI shows at once; it does not wrap."""


def main(program: str, place: str) -> None:
    """Run a task, whose remaining arguments are KFP's.

    Args:
        program: name of KFP's program.
        place: package of the component, below `gradsift.components`.

    Raises:
        SystemExit: what the task was given is wrong; the last lines of the log list it.
    """
    protect_process()
    os.environ["_KFP_RUNTIME"] = "true"
    module = Path(str(files("gradsift.components"))).joinpath(*place.split("."), "component.py")
    sys.argv = [program, *sys.argv[3:], "--component_module_path", str(module)]
    try:
        runpy.run_module(program, run_name="__main__")
    except GradsiftError as error:
        print(failure_lines(error), file=sys.stderr, flush=True)
        raise SystemExit(2) from None


def failure_lines(error: GradsiftError) -> str:
    """Return what is wrong as lines: one that counts the problems, then each, numbered, on lines of its own."""
    problems = getattr(error, "problems", [str(error)])
    count = "1 thing is wrong:" if len(problems) == 1 else f"{len(problems)} things are wrong:"
    lines = [count]
    for number, problem in enumerate(problems, start=1):
        mark = f"{number}. "
        lines += textwrap.wrap(
            problem,
            WIDTH,
            initial_indent=mark,
            subsequent_indent=" " * len(mark),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
