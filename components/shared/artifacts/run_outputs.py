"""The outputs of a run's steps so far, which one step writes under the run root and the next reads by a short key.

Tasks of the pipeline give each other this key alone: what they give each other stands many times in the workflow of
a run, whose size has a limit.
"""

import hashlib
import json
from collections.abc import Mapping

from gradsift.components.shared.artifacts.step_output import StepOutput, canonical_json
from gradsift.components.shared.errors import NotFoundError, StorageError
from gradsift.components.shared.storage.addresses import checked_key, join_uri
from gradsift.components.shared.storage.storage import open_storage

FOLDER = "run_outputs"


def write_outputs(outputs: Mapping[str, StepOutput], root_uri: str) -> str:
    """Write outputs of steps, by their names, and return the key to read them by."""
    content = canonical_json({name: output.pointer for name, output in outputs.items()}).encode()
    key = _key(content)
    open_storage(join_uri(root_uri, FOLDER)).write(f"{key}.json", content)
    return key


def read_outputs(key: str, root_uri: str) -> dict[str, StepOutput]:
    """Return the outputs that `write_outputs` wrote, by their names.

    Raises:
        NotFoundError: there are none of this key.
        StorageError: they were altered.
    """
    folder = join_uri(root_uri, FOLDER)
    where = join_uri(folder, f"{key}.json")
    try:
        content = open_storage(folder).read(checked_key(f"{key}.json"))
    except NotFoundError:
        raise NotFoundError(f"{where} does not exist: run the pipeline again.") from None
    if _key(content) != key:
        raise StorageError(f"{where} was altered: delete it and run the pipeline again.")
    return {name: StepOutput(**pointer, reused=True) for name, pointer in json.loads(content).items()}


def _key(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
