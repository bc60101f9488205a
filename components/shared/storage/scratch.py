"""The scratch folder of this user on this machine: no other user can read it, or lay files in it beforehand."""

import os
import stat
import tempfile
from pathlib import Path

from gradsift.components.shared.errors import StorageError
from gradsift.components.shared.storage.local import local_error


def scratch_path(*parts: str) -> Path:
    """Return a path below `gradsift-<user id>` in the system's temporary folder; that folder is made if needed.

    Raises:
        StorageError: it cannot be made, is a link, belongs to another user, or is open to others.
    """
    root = Path(tempfile.gettempdir()) / f"gradsift-{os.geteuid()}"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        found = root.lstat()
    except OSError as error:
        raise local_error("write", root, error) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise StorageError(
            f"The scratch folder {root} is a link, belongs to another user, or is open to others: expected a "
            "folder of this user with mode 0700; remove it, or name another temporary folder in TMPDIR."
        )
    return root.joinpath(*parts)
