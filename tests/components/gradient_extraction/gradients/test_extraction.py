"""What a shard holds, against plain forward and backward passes of the same model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from gradsift.components.gradient_extraction.gradients import extraction
from gradsift.components.gradient_extraction.gradients.extraction import (
    GradientExtractor,
    batches_by_tokens,
)
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradient_store.gradient_format import Shard
from gradsift.components.shared.gradients.projection import Projection
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.models.task_model import Batch
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig

LABELS = {"topic": ["sports", "science", "world"], "mood": ["negative", "positive"]}
TEXTS = [
    "a goal in the last minute",
    "the telescope saw a far galaxy that nobody had seen before , and its light was old",
    "no",
    "the minister met the president of another country on monday to talk about grain",
    "protons collide",
    "they lost again",
]
NORM = "encoder.encoder.layer.0.output.LayerNorm.weight"


def classifier(folder: Path) -> EncoderClassifier:
    """A model with dropout, left in training mode."""
    head = Head.for_tasks("label_embedding", 15.0, 32, "topic", LABELS)
    model = EncoderClassifier.from_base(find_base_model(str(folder)), head)
    model.freeze_embeddings()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    return model.train()


def rows(texts: list[str] = TEXTS, label: int | None = None, ids: list[str] | None = None) -> Dataset:
    count = len(texts)
    return Dataset.from_dict(
        {
            "id": ids or [f"row-{text}" for text in texts],
            "text": texts,
            "text_pair": [None] * count,
            "label": [row % 3 if label is None else label for row in range(count)],
        }
    )


def extract(
    folder: Path,
    data: Dataset,
    parameters: list[str] | None = None,
    **settings: Any,
) -> Shard:
    model = classifier(folder)
    names = parameters or [name for name, each in model.named_parameters() if each.requires_grad]
    config = GradientExtractionConfig(
        **{"dimension": 64, "projection_width": 1024, "precision": "float32", **settings}
    )
    return GradientExtractor(model, names, config).shard(data, "topic", lambda count: None)


def close(first: np.ndarray, second: np.ndarray, tolerance: float = 1e-5) -> bool:
    return bool(np.linalg.norm(first - second) <= tolerance * np.linalg.norm(second))


def test_loss_and_margin_are_those_of_a_plain_forward_pass(tiny_encoder: Path) -> None:
    shard = extract(tiny_encoder, rows())
    logs = classifier(tiny_encoder).log_probabilities(rows(), "topic").double()
    answers = torch.tensor(rows()["label"][:])
    right = logs[torch.arange(len(TEXTS)), answers]
    assert shard.example_id == rows()["id"][:]
    assert np.allclose(shard.loss, -right, atol=1e-5)
    assert np.allclose(shard.margin, right - torch.log1p(-right.exp()), atol=1e-4)


def test_probes_average_to_the_gauss_newton_matrix(tiny_encoder: Path) -> None:
    """J^T (diag(p) - p p^T) J of the logits, projected, for the weight of one layer norm."""
    draws, dimension, width = 4000, 8, 16
    copies = rows([TEXTS[0]] * draws, label=0, ids=[f"draw-{index}" for index in range(draws)])
    settings = {"dimension": dimension, "projection_width": width, "blocks": 1, "tokens_per_batch": 4096}
    probe = extract(tiny_encoder, copies, [NORM], **settings).probe[:, 0].astype(np.float64)
    found = probe.T @ probe / draws

    model = classifier(tiny_encoder).eval()
    parameter = dict(model.named_parameters())[NORM]
    logits = model.scores(torch.zeros(1, dtype=torch.long), **model.tokenize(TEXTS[:1]))[0, :3]
    projection = Projection({NORM: parameter.shape}, dimension, width, 0, torch.device("cpu"))
    sketch = projection.empty_sketch(3)
    jacobian = [torch.autograd.grad(logit, parameter, retain_graph=True)[0] for logit in logits]
    projection.add_whole(sketch, NORM, torch.stack(jacobian))
    projected = projection.finish(sketch).double()
    p = logits.detach().double().softmax(0)
    exact = projected.T @ (torch.diag(p) - torch.outer(p, p)) @ projected
    assert p.max() < 0.99
    assert close(found, exact.numpy(), 0.08)


def test_several_probes_are_different_draws(tiny_encoder: Path) -> None:
    copies = rows([TEXTS[0]] * 100, label=0, ids=[f"draw-{index}" for index in range(100)])
    probe = extract(tiny_encoder, copies, probes=3).probe
    assert probe.shape == (100, 3, 64)
    assert not close(probe[:, 0], probe[:, 1], 0.1)
    assert not close(probe[:, 1], probe[:, 2], 0.1)
    assert close(extract(tiny_encoder, copies, probes=1).probe[:, 0], probe[:, 0])


def test_rows_whose_drawn_answer_is_right_need_no_pass_of_their_own(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the share of rows up to which the others are computed apart, probes are those of whole batches."""
    copies = rows(TEXTS * 4, ids=[f"row-{index}" for index in range(4 * len(TEXTS))])
    probes, passes, computed = {}, {}, []
    answers = EncoderClassifier.answers

    def counted(model: EncoderClassifier, batch: Batch, with_hidden: bool) -> Answers:
        computed.append(len(batch["label"]))
        return answers(model, batch, with_hidden)

    monkeypatch.setattr(EncoderClassifier, "answers", counted)
    for share in (-1.0, 0.0, 0.5, 1.0):
        monkeypatch.setattr(extraction, "FEW_ROWS", share)
        computed.clear()
        probes[share] = extract(tiny_encoder, copies, probes=2).probe
        passes[share] = [*computed]
    assert all(close(each, probes[-1.0]) for each in probes.values())
    whole, apart = passes[1.0]
    assert whole == len(copies) > apart > 0
    assert passes[-1.0] == passes[0.0] == [whole]


@pytest.mark.parametrize("settings", [{"tokens_per_batch": 1}, {"tokens_per_batch": 40}])
def test_results_do_not_depend_on_the_batches(tiny_encoder: Path, settings: dict[str, int]) -> None:
    """One row a batch is without padding, the default puts all rows into one."""
    whole, cut = extract(tiny_encoder, rows(), probes=2), extract(tiny_encoder, rows(), probes=2, **settings)
    for name in ("loss", "margin", "gradient", "probe"):
        assert close(getattr(cut, name), getattr(whole, name)), name


def test_a_row_is_the_same_in_any_order_and_company(tiny_encoder: Path) -> None:
    """Its sampled label too, for it depends on the seed, the task and the row's id alone."""
    whole = extract(tiny_encoder, rows())
    picked = [5, 3, 0]
    part = extract(tiny_encoder, rows().select(picked))
    assert part.example_id == [whole.example_id[row] for row in picked]
    for name in ("loss", "margin", "gradient", "probe"):
        assert close(getattr(part, name), getattr(whole, name)[picked]), name


def test_another_seed_is_another_projection_of_the_same_losses(tiny_encoder: Path) -> None:
    first, second = extract(tiny_encoder, rows()), extract(tiny_encoder, rows(), seed=1)
    assert np.array_equal(first.loss, second.loss)
    assert not close(first.gradient, second.gradient, 0.5)


def test_bf16_is_close_to_float32(tiny_encoder: Path) -> None:
    exact, fast = extract(tiny_encoder, rows()), extract(tiny_encoder, rows(), precision="bf16")
    assert np.allclose(fast.loss, exact.loss, atol=0.1)
    assert close(fast.gradient, exact.gradient, 0.1)


def test_batches_hold_every_row_once_within_the_tokens() -> None:
    lengths = [7, 3, 50, 3, 12, 9, 1]
    batches = batches_by_tokens(range(7), lengths, 24)
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    assert all(len(batch) * max(lengths[row] for row in batch) <= 24 for batch in batches if len(batch) > 1)
    assert list(batches) == [[6, 1, 3], [0, 5], [4], [2]]
    assert list(batches_by_tokens([5, 0], lengths, 24)) == [[0, 5]]


def test_hidden_states_are_stored_where_wanted(tiny_encoder: Path) -> None:
    shard = extract(tiny_encoder, rows(), hidden_states=True)
    model = classifier(tiny_encoder).eval()
    with torch.no_grad():
        expected = model.pooled(**model.tokenize(TEXTS))
    assert shard.hidden is not None
    assert close(shard.hidden, expected.numpy())
    assert extract(tiny_encoder, rows()).hidden is None


class SmallMemory:
    """Runs out of memory, as a GPU does, where a batch has more padded tokens than fit."""

    def __init__(self, extractor: GradientExtractor, tokens: int) -> None:
        self.batches: list[int] = []
        self.tokens = tokens
        extractor.model.encoder.register_forward_pre_hook(self.allocate, with_kwargs=True)

    def allocate(self, module: nn.Module, args: tuple[Any, ...], inputs: dict[str, torch.Tensor]) -> None:
        self.batches.append(inputs["input_ids"].numel())
        if self.batches[-1] > self.tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")


def extractor(folder: Path, **settings: Any) -> GradientExtractor:
    model = classifier(folder)
    names = [name for name, each in model.named_parameters() if each.requires_grad]
    config = GradientExtractionConfig(dimension=64, projection_width=1024, precision="float32", **settings)
    return GradientExtractor(model, names, config)


def test_batches_are_halved_until_they_fit_and_nothing_is_lost(tiny_encoder: Path) -> None:
    expected = extract(tiny_encoder, rows())
    halving = extractor(tiny_encoder, tokens_per_batch=200)
    memory = SmallMemory(halving, tokens=30)
    done: list[int] = []
    found = halving.shard(rows(), "topic", done.append)
    assert 15 <= halving.tokens <= 30
    assert sum(done) == len(TEXTS)
    assert 0 < sum(batch > 30 for batch in memory.batches) <= 3
    for name in ("loss", "margin", "gradient", "probe"):
        assert close(getattr(found, name), getattr(expected, name)), name
    before = len(memory.batches)
    halving.shard(rows(), "topic", done.append)
    assert all(batch <= 30 for batch in memory.batches[before:]), "later shards start with what fits"


def test_layers_are_recomputed_for_a_row_with_more_tokens_than_a_batch_may_have(tiny_encoder: Path) -> None:
    expected = extract(tiny_encoder, rows())
    small = extractor(tiny_encoder, tokens_per_batch=8)
    seen: dict[bool, set[int]] = {True: set(), False: set()}

    def note(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, torch.Tensor]) -> None:
        seen[small.recomputation.on].add(inputs["input_ids"].numel())

    small.model.encoder.register_forward_pre_hook(note, with_kwargs=True)
    found = small.shard(rows(), "topic", lambda count: None)
    assert 0 < max(seen[False]) <= 8 < min(seen[True])
    for name in ("loss", "margin", "gradient", "probe"):
        assert close(getattr(found, name), getattr(expected, name)), name


def test_a_row_that_does_not_fit_alone_is_named(tiny_encoder: Path) -> None:
    tight = extractor(tiny_encoder)
    SmallMemory(tight, tokens=10)
    message = r"Row 'row-.*' of task 'topic' with its \d+ tokens does not fit into the GPU's memory"
    with pytest.raises(InputError, match=message):
        tight.shard(rows(), "topic", lambda count: None)


def test_gradients_of_mpnet_whose_rows_share_their_position_bias(tiny_encoder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, MPNetConfig, MPNetModel

    folder = tmp_path / "mpnet"
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    config = MPNetConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MPNetModel(config).save_pretrained(folder)
    model = classifier(folder)
    names = [name for name, each in model.named_parameters() if each.requires_grad]
    bias = "encoder.encoder.relative_attention_bias.weight"
    assert bias in names
    settings = GradientExtractionConfig(dimension=64, projection_width=1024, precision="float32")
    GradientExtractor(model, names, settings).check(rows(), "topic")
    alone, together = (
        extract(folder, rows(), [bias], tokens_per_batch=tokens).gradient for tokens in (1, 10_000)
    )
    assert np.linalg.norm(alone, axis=1).min() > 0
    assert close(together, alone)
