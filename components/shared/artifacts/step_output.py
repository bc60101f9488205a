"""What a step leaves behind: a folder named by the content of its inputs, finished once it has a manifest.

A step's output lies at `<root>/<step>/<key>/`, where the key is a digest of everything that decides the
result: settings, digests of the inputs, the step's own code. A step that finds its folder finished does not
run again, so a killed pipeline continues, and an unchanged one only checks.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradsift.components.shared.artifacts.step_code import code_digest
from gradsift.components.shared.documents.json_document import load_json_object
from gradsift.components.shared.errors import InputError, StorageError
from gradsift.components.shared.storage.addresses import checked_key, is_remote, join_uri
from gradsift.components.shared.storage.bounded_reading import read_local_file
from gradsift.components.shared.storage.local import PARTIAL, LocalStorage, atomic_file, local_error
from gradsift.components.shared.storage.scratch import scratch_path
from gradsift.components.shared.storage.storage import Storage, delete_below, open_storage

MANIFEST = "manifest.json"
DOWNLOADS = 2
"""Times that a file is downloaded until it is called altered: one download may be spoilt on its way."""
MAX_POINTER_BYTES = 16 * 2**20


@dataclass(frozen=True)
class StepOutput:
    """A finished folder of files.

    Attributes:
        uri: where it lies, a local path or an `s3://` address.
        digest: sha256 of its manifest, which in turn holds the sha256 of every file.
        metadata: what the step says of its result (counts, metrics), JSON values only.
        reused: whether it was there before and the step did not run.
    """

    uri: str
    digest: str
    metadata: dict[str, Any]
    reused: bool = False

    @property
    def pointer(self) -> dict[str, Any]:
        """What leads to the output again, whoever made it: JSON values."""
        return {"uri": self.uri, "digest": self.digest, "metadata": self.metadata}


def canonical_json(value: Any) -> str:
    """Return `value` as JSON that depends on its content alone (sorted keys, fixed separators)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(value: Any) -> str:
    """Return the sha256 of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def output_key(step: str, inputs: Mapping[str, Any]) -> str:
    """Return the folder name of the output that `step` makes of `inputs` (settings and digests)."""
    return _key(step, code_digest(step), inputs)


def produce(
    root_uri: str,
    step: str,
    inputs: Mapping[str, Any],
    work: Callable[[Path], dict[str, Any]],
    place: str = "",
) -> StepOutput:
    """Return the step's output for these inputs, running `work` only if it is not there yet.

    Args:
        root_uri: the run root, a local path or an `s3://` address.
        step: the step's package name under `components/`.
        inputs: settings and digests that decide the result, JSON values.
        work: fills the given folder and returns the output's metadata. The folder is the same one after a
            restart on the same machine, with what an earlier, killed call left in it.
        place: name of the folder under the run root for steps that have outputs of several kinds; empty takes the
            step's name.
    """
    key, place = output_key(step, inputs), place or step
    uri = join_uri(root_uri, place, key)
    found = find_output(uri)
    if found is not None:
        return found
    folder = work_folder(root_uri, f"{place}-{key}")
    _remove_half_done(folder)
    metadata = work(folder)
    manifest = write_manifest(step, inputs, metadata, _file_list(folder))
    _publish(folder, uri, manifest)
    if is_remote(root_uri):
        delete_below(open_storage(join_uri(root_uri, "work")), folder.name)
    return StepOutput(uri, hashlib.sha256(manifest).hexdigest(), metadata)


def find_output(uri: str) -> StepOutput | None:
    """Return the finished output at `uri`, or None where there is none or a file of it is gone.

    An altered file is found by `fetch`, which reads it.
    """
    storage = open_storage(uri)
    if not storage.exists(MANIFEST):
        return None
    content = storage.read(MANIFEST)
    manifest = read_manifest(content, uri)
    present = set(storage.keys())
    if any(entry["name"] not in present for entry in manifest["files"]):
        return None
    return StepOutput(uri, hashlib.sha256(content).hexdigest(), manifest["metadata"], reused=True)


def write_manifest(
    step: str, inputs: Mapping[str, Any], metadata: Mapping[str, Any], files: list[dict[str, Any]]
) -> bytes:
    """Return the manifest of a step's output, which holds a digest of all that is in it."""
    manifest = {
        "step": step,
        "code": code_digest(step),
        "inputs": dict(inputs),
        "metadata": metadata,
        "files": files,
    }
    return canonical_json({**manifest, "digest": digest_of(manifest)}).encode()


def read_manifest(content: bytes, uri: str) -> dict[str, Any]:
    """Return what the manifest of the output at `uri` says, once it has been checked against itself and its place.

    Raises:
        StorageError: it is not what a step wrote, or the output was moved to the folder of another.
    """
    where = join_uri(uri, MANIFEST)
    try:
        manifest = load_json_object(content, where)
        digest = manifest.pop("digest", None)
        whole = digest == digest_of(manifest)
    except (InputError, ValueError):
        whole = False
    if not whole:
        raise StorageError(
            f"{where} is damaged: expected it as its step wrote it; delete {uri} to have it made again."
        )
    if uri.rpartition("/")[2] != _key(manifest["step"], manifest["code"], manifest["inputs"]):
        raise StorageError(
            f"{where} belongs to other inputs than its folder; delete {uri} to have it made again."
        )
    return manifest


def _key(step: str, code: str, inputs: Mapping[str, Any]) -> str:
    return digest_of({"step": step, "code": code, **inputs})[:16]


def work_folder(root_uri: str, name: str) -> Path:
    """Return the scratch folder of an unfinished output, made if needed: the same one at every call.

    It lies under the run root where that is local, otherwise in this user's scratch folder.
    """
    folder = Path(root_uri) / "work" / name
    if is_remote(root_uri):
        folder = scratch_path(digest_of(root_uri)[:16], name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise local_error("write", folder, error) from error
    return folder


def work_uri(root_uri: str, name: str) -> str:
    """Return the address of what must outlive the machine that works on an output, until that is finished.

    Where the run root is local, this is the scratch folder itself.
    """
    return join_uri(root_uri, "work", name)


def fetch(output: StepOutput, names: list[str] | None = None) -> Path:
    """Return a local folder with the output's files (all, or those named), each checked against its sha256.

    Raises:
        StorageError: a file is missing, or is not what the manifest says.
    """
    storage = open_storage(output.uri)
    content = storage.read(MANIFEST)
    if hashlib.sha256(content).hexdigest() != output.digest:
        raise StorageError(f"{join_uri(output.uri, MANIFEST)} was altered after its step had finished.")
    manifest = read_manifest(content, output.uri)
    folder = _local_copy(storage, output)
    if not isinstance(storage, LocalStorage):
        _write_origin(folder, output)
    for entry in manifest["files"]:
        if names is not None and entry["name"] not in names:
            continue
        path = folder / checked_key(entry["name"])
        for _ in range(DOWNLOADS):
            if not isinstance(storage, LocalStorage) and not _is_whole(path, entry):
                storage.download(entry["name"], path)
        if not _is_whole(path, entry):
            where = join_uri(output.uri, entry["name"])
            raise StorageError(
                f"{where} is missing or altered: expected {entry['bytes']} bytes "
                f"with sha256 {entry['sha256'][:12]}; delete {output.uri} to have it made again."
            )
    return folder


def origin_of(folder: Path) -> StepOutput | None:
    """Return the remote output that `fetch` last made the folder of, or None where it is not such a folder."""
    file = _origin_file(folder)
    return _pointed(file) if file.exists() else None


def read_file(output: StepOutput, name: str) -> bytes:
    """Return one checked file of an output."""
    return (fetch(output, [name]) / name).read_bytes()


def write_pointer(output: StepOutput, artifact: Any) -> None:
    """Make a KFP artifact point to `output`: a small JSON file, and the same in the artifact's metadata."""
    with atomic_file(Path(artifact.path)) as path:
        path.write_text(json.dumps(output.pointer))
    artifact.metadata.update({"uri": output.uri, "digest": output.digest, **output.metadata})


def copy_file(output: StepOutput, name: str, artifact: Any) -> None:
    """Copy one file of the output into a KFP artifact that the UI draws (HTML, Markdown)."""
    with atomic_file(Path(artifact.path)) as path:
        path.write_bytes(read_file(output, name))


def _pointed(file: Path) -> StepOutput:
    """Return the output that a pointer file names."""
    pointer = load_json_object(read_local_file(file, MAX_POINTER_BYTES), str(file))
    uri, digest, metadata = (pointer.get(name) for name in ("uri", "digest", "metadata"))
    if not (isinstance(uri, str) and isinstance(digest, str) and isinstance(metadata, dict)):
        raise InputError(f"{file} points to no output: expected 'uri', 'digest' and 'metadata'.")
    return StepOutput(uri, digest, metadata)


def _origin_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.origin.json")


def _write_origin(folder: Path, output: StepOutput) -> None:
    if origin_of(folder) != replace(output, reused=False):
        with atomic_file(_origin_file(folder)) as path:
            path.write_text(json.dumps(output.pointer))


def _remove_half_done(folder: Path) -> None:
    """Delete what a killed call left half done: temporary files, and a manifest that was not published."""
    for path in [folder / MANIFEST, *folder.rglob(f"*{PARTIAL}")]:
        path.unlink(missing_ok=True)


def _publish(folder: Path, uri: str, manifest: bytes) -> None:
    storage = open_storage(uri)
    if isinstance(storage, LocalStorage):
        LocalStorage(folder).write(MANIFEST, manifest)
        try:
            if storage.root.exists():
                shutil.rmtree(storage.root)
            storage.root.parent.mkdir(parents=True, exist_ok=True)
            folder.replace(storage.root)
        except OSError as error:
            raise local_error("write", storage.root, error) from error
        return
    for entry in json.loads(manifest)["files"]:
        storage.upload(folder / entry["name"], entry["name"])
    storage.write(MANIFEST, manifest)
    shutil.rmtree(folder)


def _file_list(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        {
            "name": path.relative_to(folder).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in paths
    ]


def _is_whole(path: Path, entry: Mapping[str, Any]) -> bool:
    return path.exists() and file_digest(path) == entry["sha256"]


def _local_copy(storage: Storage, output: StepOutput) -> Path:
    if isinstance(storage, LocalStorage):
        return storage.root
    return scratch_path("fetched", output.digest[:32])
