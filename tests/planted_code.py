"""Modules planted in the current folder, under the names of packages that gradsift imports: none may run."""

from pathlib import Path

NAMES = ("datasets", "deepspeed", "kfp", "mlflow", "multiprocess", "numpy", "torch", "transformers")
MODULE = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\nraise SystemExit(99)\n"


def plant_code(folder: Path) -> None:
    """Plant a module of each name in a folder; one that runs leaves a file and ends its process."""
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        (folder / f"{name}.py").write_text(MODULE)


def code_that_ran(folder: Path) -> list[str]:
    """Return the names of the planted modules that ran."""
    return sorted(path.stem for path in folder.glob("*.ran"))
