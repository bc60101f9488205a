"""Rows longer than a batch may be, whose scores are computed in parts: the same numbers, in less memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gradsift.components.gradient_extraction.gradients.extraction import GradientExtractor
from gradsift.components.gradient_extraction.gradients.starting_point import StartingPoint
from gradsift.components.shared.data.prepared_data import PreparedData, PreparedTask, write_index
from gradsift.components.shared.gradient_store.gradient_format import Shard
from gradsift.components.shared.models import answers
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.task_model import pretrained_in
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.parameters.training import Precision
from tests.tiny_language_models import LORA, make_base, make_vision_base, model_of

SCORES_AT_A_TIME = 1500
"""Those of a few positions."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SCORE_BATCH", SCORES_AT_A_TIME)


def make_model(folder: Path, family: str, lora: bool = False) -> LanguageModel:
    write_index(folder, "suite", "sums", [PreparedTask(name="sums", kind="generation", labels=[], rows={})])
    base = folder / "base"
    made = make_vision_base(base) if family == "vision" else make_base(base, family)
    torch.manual_seed(0)
    model = model_of(made, PreparedData(folder), max_length=128, **(LORA if lora else {}))
    model.freeze_untrained(train_embeddings=True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def make_extractor(model: LanguageModel, precision: Precision = "float32") -> GradientExtractor:
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    start = StartingPoint(model, {name: 0.9 * each for name, each in trained.items()})
    config = GradientExtractionConfig(
        dimension=16,
        blocks=2,
        projection_width=256,
        precision=precision,
        probes=2,
        hidden_states=True,
    )
    return GradientExtractor(model, list(trained), config, start)


def one_row(words: int) -> Dataset:
    return Dataset.from_dict(
        {
            "id": ["long"],
            "prompt": ["count on from one"],
            "completion": [" ".join(["two three four five"] * words)],
            "rationale": [None],
        }
    )


def extract(extractor: GradientExtractor, rows: Dataset, in_parts: bool) -> Shard:
    extractor.tokens = 1 if in_parts else 2048
    return extractor.shard(rows, "sums", lambda count: None)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@pytest.mark.parametrize(
    ("family", "lora", "precision"),
    [
        ("llama", True, "float32"),
        ("llama", True, "bf16"),
        ("llama_tied", False, "float32"),
        ("gpt2", False, "float32"),
        ("gemma2", True, "float32"),
        ("gemma3", False, "float32"),
        ("vision", False, "float32"),
        ("bloom", False, "float32"),
        ("bart", False, "float32"),
        ("t5", False, "float32"),
        ("flan_t5", True, "float32"),
    ],
)
def test_parts_give_the_numbers_of_all_scores_at_once(
    family: str, lora: bool, precision: Precision, tmp_path: Path
) -> None:
    model = make_model(tmp_path, family, lora)
    computed: list[int] = []
    read: list[Any] = []
    model.lm.get_output_embeddings().register_forward_hook(
        lambda module, inputs, output: computed.append(output.numel())
    )
    if model.settings.encoder_decoder:
        model.lm.get_encoder().register_forward_hook(lambda *_: read.append(None))
    extractor = make_extractor(model, precision)
    shards, encoded = {}, {}
    for in_parts in (False, True):
        computed.clear()
        read.clear()
        shards[in_parts] = extract(extractor, one_row(5), in_parts)
        encoded[in_parts] = len(read)
        assert (max(computed) <= SCORES_AT_A_TIME) == in_parts
    assert encoded[True] == encoded[False], "parts share what the encoder computed"
    for name in ("loss", "margin", "base_margin", "gradient", "probe", "hidden"):
        assert difference(getattr(shards[True], name), getattr(shards[False], name)) < 1e-5, name


class ScoresHeld(TorchDispatchMode):
    """Counts the bytes that tensors over all tokens of the vocabulary hold at a time.

    Attributes:
        most: the largest number of bytes so far.
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.most = 0
        self._vocabulary = model.lm.get_output_embeddings().weight.shape[0]
        self._weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
        self._held: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor) and each.dim() > 1 and each.shape[-1] == self._vocabulary:
                storage = each.untyped_storage()
                if storage.data_ptr() not in self._weights:
                    self._held[StorageWeakRef(storage)] = storage.nbytes()
        self._held = {storage: size for storage, size in self._held.items() if not storage.expired()}
        self.most = max(self.most, sum(self._held.values()))
        return result


@pytest.mark.parametrize(("family", "lora"), [("llama", True), ("t5", False)])
@pytest.mark.parametrize("step", ["shard", "check"])
def test_scores_take_no_more_memory_for_a_longer_answer(
    step: str, family: str, lora: bool, tmp_path: Path
) -> None:
    model = make_model(tmp_path, family, lora)
    extractor = make_extractor(model)

    def most(in_parts: bool, words: int) -> int:
        with ScoresHeld(model) as scores:
            if step == "shard":
                extract(extractor, one_row(words), in_parts)
            else:
                extractor.tokens = 1 if in_parts else 2048
                extractor.check(one_row(words), "sums")
        return scores.most

    assert most(False, 10) > 1.8 * most(False, 5)
    assert most(True, 10) == most(True, 5)


def test_a_model_that_does_not_call_its_decoder_computes_all_scores_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path, "llama")
    extractor = make_extractor(model)
    expected = extract(extractor, one_row(5), in_parts=False)
    monkeypatch.setattr(pretrained_in(model), "get_decoder", nn.Module)
    found = extract(extractor, one_row(5), in_parts=True)
    for name in ("loss", "gradient", "probe"):
        assert difference(getattr(found, name), getattr(expected, name)) < 1e-5, name
