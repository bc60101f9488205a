"""Names of base models, and the digests that say which weights were used."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import PACKAGED_MINILM, check_base_model, find_base_model


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
    for look in (find_base_model, check_base_model):
        with pytest.raises(InputError) as error:
            look(name)
        message = str(error.value)
        assert message.startswith(f"The base model {name!r} ")
        assert message.endswith(".")
        assert "\n" not in message


def test_a_check_says_where_a_model_will_come_from(folder: Path) -> None:
    assert check_base_model(PACKAGED_MINILM) == f"{PACKAGED_MINILM} comes in a Python package"
    assert check_base_model(str(folder)) == f"{folder} is a folder"
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no safetensors weights"):
        check_base_model(str(folder))


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    """Serve three models as the Hugging Face hub does: an open one, one with pickled weights, and a gated one."""
    files = {"open": "model.safetensors", "pickled": "pytorch_model.bin", "gated": "model.safetensors"}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.split("?")[0].removeprefix("/api/models/some/").removesuffix("/auth-check")
            refused = self.path.endswith("/auth-check") and name == "gated"
            self.send_response(404 if name not in files else 403 if refused else 200)
            self.send_header("X-Error-Code", "GatedRepo" if refused else "RepoNotFound")
            self.end_headers()
            siblings = [{"rfilename": files.get(name, "")}]
            self.wfile.write(json.dumps({"id": f"some/{name}", "siblings": siblings}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("some/open", "some/open is on the Hugging Face hub"),
        ("some/pickled", "The base model 'some/pickled' of the Hugging Face hub has no safetensors weights."),
        ("some/gated", "The base model 'some/gated' is gated: expected an HF_TOKEN of somebody who was"),
        ("some/missing", "The base model 'some/missing' was not found: it is neither"),
    ],
)
def test_a_model_of_the_hub_is_looked_up_but_not_downloaded(
    name: str, said: str, hub: str, tmp_path: Path
) -> None:
    code = (
        "from gradsift.components.shared.models.base_model import check_base_model\n"
        "from gradsift.components.shared.errors import InputError\n"
        f"try: print(check_base_model({name!r}))\n"
        "except InputError as error: print(error)"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith(said), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variable", "fault"),
    [
        ({"HF_ENDPOINT": "http://[x"}, "The Hugging Face hub cannot be asked, as a variable HF_"),
        ({"HF_TOKEN": "5€", "HF_HUB_OFFLINE": "0"}, "The base model 'owner/model' was not found"),
    ],
)
def test_variables_that_the_hub_cannot_use_are_reported(variable: dict[str, str], fault: str) -> None:
    program = (
        "from gradsift.components.shared.models.base_model import check_base_model\n"
        "check_base_model('owner/model')"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", **variable}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert f"InputError: {fault}" in done.stderr.splitlines()[-1]
