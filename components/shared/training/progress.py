"""What of a training outlives its machine: finished jobs and checkpoints, kept under the run root on S3.

Below one address lie `results/<job>/`, whole once it has a `training.json`, and
`checkpoints/<job>/<n>-processes/checkpoint-<step>/`, whole once it has a `whole`.
"""

import shutil
from pathlib import Path

from gradsift.components.shared.storage.storage import Storage, delete_below, open_storage
from gradsift.components.shared.training.job import RESULT

RESULTS = "results"
CHECKPOINTS = "checkpoints"
WHOLE = "whole"


class TrainingProgress:
    """Finished jobs and checkpoints of one list of jobs.

    Attributes:
        uri: where they are kept, an `s3://` address.
        storage: the same, opened.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.storage: Storage = open_storage(uri)

    def save_result(self, folder: Path) -> None:
        """Keep the folder of a finished job, and drop the job's checkpoints."""
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        for name in sorted(names, key=RESULT.__eq__):  # what says that it is finished comes last
            self.storage.upload(folder / name, f"{RESULTS}/{folder.name}/{name}")
        delete_below(self.storage, f"{CHECKPOINTS}/{folder.name}/")

    def has_result(self, folder: Path) -> bool:
        """Say whether the job of that folder was finished."""
        return self.storage.exists(f"{RESULTS}/{folder.name}/{RESULT}")

    def fetch_result(self, folder: Path) -> bool:
        """Fill the folder of a job if that was finished, and say whether it was."""
        if not self.has_result(folder):
            return False
        place = f"{RESULTS}/{folder.name}/"
        names = [key.removeprefix(place) for key in self.storage.keys(place)]
        for name in sorted(names, key=RESULT.__eq__):
            self.storage.download(f"{place}{name}", folder / name)
        return True

    def save_file(self, path: Path) -> None:
        """Keep a file of an unfinished job's folder."""
        self.storage.upload(path, f"{RESULTS}/{path.parent.name}/{path.name}")

    def fetch_file(self, path: Path) -> bool:
        """Put a file of an unfinished job's folder in its place if it was kept, and say whether it was."""
        key = f"{RESULTS}/{path.parent.name}/{path.name}"
        if not self.storage.exists(key):
            return False
        self.storage.download(key, path)
        return True

    def save_checkpoint(self, job: str, processes: int, folder: Path) -> None:
        """Keep this machine's part of a checkpoint."""
        for path in folder.rglob("*"):
            if path.is_file():
                name = path.relative_to(folder.parent).as_posix()
                self.storage.upload(path, f"{_place(job, processes)}{name}")

    def seal_checkpoint(self, job: str, processes: int, name: str) -> None:
        """Mark a checkpoint that every machine has kept its part of, and drop the others."""
        place = _place(job, processes)
        self.storage.write(f"{place}{name}/{WHOLE}", b"")
        others = [key for key in self.storage.keys(place) if not key.startswith(f"{place}{name}/")]
        for key in sorted(others, key=lambda key: not key.endswith(f"/{WHOLE}")):
            self.storage.delete(key)

    def fetch_checkpoint(self, job: str, processes: int, folder: Path) -> None:
        """Put the newest whole checkpoint of so many processes below `folder`, and nothing else."""
        shutil.rmtree(folder, ignore_errors=True)
        place = _place(job, processes)
        keys = [key.removeprefix(place) for key in self.storage.keys(place)]
        whole = [key.removesuffix(f"/{WHOLE}") for key in keys if key.endswith(f"/{WHOLE}")]
        if whole:
            newest = max(whole, key=lambda name: int(name.removeprefix("checkpoint-")))
            for key in keys:
                if key.startswith(f"{newest}/"):
                    self.storage.download(f"{place}{key}", folder / key)


def _place(job: str, processes: int) -> str:
    return f"{CHECKPOINTS}/{job}/{processes}-processes/"
