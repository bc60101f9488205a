"""Names of base models, and the digests that say which weights were used."""

import shutil
from pathlib import Path

import pytest

from gradsift.components.shared.base_model import PACKAGED_MINILM, find_base_model
from gradsift.components.shared.errors import InputError


@pytest.fixture
def folder(tiny_encoder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_encoder, tmp_path / "encoder")


def test_the_packaged_model_is_found_without_a_network() -> None:
    base = find_base_model(PACKAGED_MINILM)
    assert base.name == PACKAGED_MINILM
    assert (base.folder / "model.safetensors").stat().st_size > 10_000_000


def test_digests_follow_the_content_and_not_the_place(tiny_encoder: Path, folder: Path) -> None:
    here, copy = find_base_model(str(tiny_encoder)), find_base_model(str(folder))
    assert (here.digest, here.tokenizer_digest) == (copy.digest, copy.tokenizer_digest)
    config = folder / "config.json"
    config.write_text(config.read_text().replace("gelu", "relu"))
    changed = find_base_model(str(folder))
    assert changed.digest != here.digest
    assert changed.tokenizer_digest == here.tokenizer_digest


def test_a_changed_tokenizer_changes_its_digest_alone(tiny_encoder: Path, folder: Path) -> None:
    here = find_base_model(str(tiny_encoder))
    with (folder / "tokenizer.json").open("a") as file:
        file.write("\n")
    changed = find_base_model(str(folder))
    assert changed.digest == here.digest
    assert changed.tokenizer_digest != here.tokenizer_digest


def test_pickled_weights_do_not_count(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"has no safetensors weights with a config.json beside them.$"):
        find_base_model(str(folder))


def test_a_folder_without_a_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"has no safetensors weights with a config.json beside them.$"):
        find_base_model(str(folder))


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(InputError, match=r"has no tokenizer files.$"):
        find_base_model(str(folder))


@pytest.mark.parametrize("name", ["nobody/no-such-model", "/no/such/folder", "no such name", ""])
def test_an_unknown_name_is_one_sentence(name: str) -> None:
    with pytest.raises(InputError) as error:
        find_base_model(name)
    message = str(error.value)
    assert message.startswith(f"The base model {name!r} ")
    assert message.endswith(".")
    assert "\n" not in message
