"""Stores of causal and sequence-to-sequence language models, full and LoRA, from rows to a selection."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from gradsift.components.gradient_extraction.gradients import extraction
from gradsift.components.gradient_extraction.gradients.extraction import GradientExtractor, token_count
from gradsift.components.gradient_extraction.step import STEP, extract_gradients
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData, PreparedTask, write_index, write_split
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradient_store.gradient_format import Shard
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.gradients.counter_hash import uniforms
from gradsift.components.shared.gradients.projection import Projection
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.model_loading import before_training, open_model
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.trained_model import training_result
from gradsift.components.subset_estimation.estimators.loss_estimator import open_estimator
from gradsift.components.subset_estimation.step import estimate_subsets
from tests.tiny_language_models import make_base

CONFIG = GradientExtractionConfig(
    dimension=16, blocks=2, projection_width=256, shard_rows=8, precision="float32", hidden_states=True
)
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
SEED = 3
FORMS = [("qwen2", 0), ("gpt2", 4), ("t5", 0), ("flan_t5", 4)]


def sums(split: str, count: int) -> list[dict[str, Any]]:
    """Rows of generation, with completions of one to many tokens and a rationale now and then."""
    return [
        {
            "id": f"{split}-{row}",
            "prompt": f"add {NUMBERS[row % 5]} and {NUMBERS[row % 3]} {'please ' * (row % 4)}",
            "completion": " ".join([NUMBERS[row % 5 + row % 3]] * (1 + row % 3)),
            "rationale": "count on from the larger one" if row % 4 == 3 else None,
            "references": [NUMBERS[row % 5 + row % 3]],
        }
        for row in range(count)
    ]


def moods(split: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{split}-{row}",
            "text": f"a {NUMBERS[row % 11]} star film",
            "text_pair": None,
            "label": row % 2,
        }
        for row in range(count)
    ]


def prepared(root: Path, target: str) -> StepOutput:
    """Prepared data of two tasks of generation and one of classification."""

    def work(folder: Path) -> dict[str, Any]:
        tasks = []
        for name, kind, rows in (
            ("sums", "generation", sums),
            ("more_sums", "generation", sums),
            ("mood", "classification", moods),
        ):
            splits = {"train": 12} | ({"val": 9} if name == target else {})
            for split, count in splits.items():
                write_split(folder, name, split, rows(f"{name}-{split}", count), kind)
            labels = ["negative", "positive"] if kind == "classification" else []
            tasks.append(PreparedTask(name=name, kind=kind, labels=labels, rows=splits))
        write_index(folder, "numbers", target, tasks)
        return {"suite": "numbers", "target": target}

    return produce(str(root), "data_preparation", {"target": target}, work)


def trained(root: Path, data: StepOutput, family: str, lora_rank: int, embeddings: bool) -> StepOutput:
    """What training leaves, without the training: weights that differ from the pretrained ones."""
    base = find_base_model(str(make_base(root / "base" / family, family)))
    config = ModelConfig(
        base_model=base.name, max_length=48, lora_rank=lora_rank, train_embeddings=embeddings
    )

    def work(folder: Path) -> dict[str, Any]:
        model = before_training(config, PreparedData(Path(data.uri)), SEED)
        if not embeddings:
            model.freeze_embeddings()
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn_like(parameter)
        model.save(folder)
        (folder / "training.json").write_text(
            json.dumps({"model": config.model_dump(), "recipe": {"seed": SEED}})
        )
        digests = {"base_model_digest": base.digest, "tokenizer_digest": base.tokenizer_digest}
        return {"train_embeddings": embeddings, **digests}

    return produce(str(root), "meta_training", config.model_dump(), work)


def run(data: StepOutput, model: StepOutput, root: Path, **settings: Any) -> StepOutput:
    config = CONFIG.model_copy(update=settings)
    with track_step(STEP, str(root), {}) as tracker:
        return extract_gradients(config, data, model, str(root), tracker)


def shards_of(store: GradientStore) -> dict[tuple[str, str], list[Shard]]:
    parts = dict.fromkeys((shard.task, shard.split) for shard in store.shards)
    return {part: list(store.read(*part)) for part in parts}


def scored_row(
    model: LanguageModel, data: PreparedData, task: str, row: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses [T], scores [T, V] and hidden states of a row, from a plain unpadded pass with all scores."""
    example = model.encode(data.split(task, "train"), task)[row]
    read, written = torch.tensor([example["input_ids"]]), torch.tensor(example["label"])
    if model.settings.encoder_decoder:
        start = torch.tensor([[model.lm.config.decoder_start_token_id, *example["label"][:-1]]])
        outputs = model.lm(input_ids=read, decoder_input_ids=start, use_cache=False)
        logits, states = outputs.logits[0], outputs.encoder_last_hidden_state[0]
    else:
        whole = torch.cat([read, written[None]], 1)[:, :-1]
        outputs = model.lm(input_ids=whole, use_cache=False, output_hidden_states=True)
        logits, states = outputs.logits[0, read.shape[1] - 1 :], outputs.hidden_states[-1][0]
    return functional.cross_entropy(logits, written, reduction="none"), logits, states


def expected_row(
    model: LanguageModel, names: list[str], data: PreparedData, task: str, row: int
) -> dict[str, Any]:
    """What a shard holds of a row, token by token."""
    losses, logits, states = scored_row(model, data, task, row)
    row_id = data.split(task, "train")[row]["id"]
    draws = uniforms(0, f"label/{task}/{row_id}/0", len(losses))
    cumulative = logits.detach().double().softmax(1).cumsum(1)
    sampled = torch.tensor(
        [int(torch.searchsorted(c, d, right=True)) for c, d in zip(cumulative, draws, strict=True)]
    )
    probe = functional.cross_entropy(logits, sampled, reduction="none").sum() / len(losses) ** 0.5
    parameters = [model.get_parameter(name) for name in names]
    shapes = {name: tuple(parameter.shape) for name, parameter in zip(names, parameters, strict=True)}
    projection = Projection(shapes, CONFIG.dimension, CONFIG.projection_width, 0, torch.device("cpu"))

    def projected(loss: torch.Tensor) -> np.ndarray:
        sketch = projection.empty_sketch(1)
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        for name, gradient in zip(names, gradients, strict=True):
            projection.add_whole(sketch, name, gradient[None])
        return projection.finish(sketch)[0].numpy()

    total = losses.sum().item()
    return {
        "loss": losses.mean().item(),
        "margin": -np.log(np.expm1(total)),
        "positions": len(losses),
        "gradient": projected(losses.mean()),
        "probe": projected(probe)[None],
        "hidden": states.detach().mean(0).numpy(),
    }


def squared_step_norm(one: LanguageModel, other: Any) -> float:
    """The squared distance of the parameters that differ: frozen ones do not."""
    start = dict(other.named_parameters())
    return sum((value - start[name]).detach().square().sum().item() for name, value in one.named_parameters())


@pytest.mark.parametrize(("family", "lora_rank"), FORMS)
@pytest.mark.parametrize("target", ["sums", "mood"])
def test_from_rows_to_a_selection(family: str, lora_rank: int, target: str, tmp_path: Path) -> None:
    data = prepared(tmp_path, target)
    model = trained(tmp_path, data, family, lora_rank, embeddings=target == "sums")
    output = run(data, model, tmp_path)
    store = GradientStore(output.uri, output.digest)
    assert not [problem for _, problem in store.damage() if problem]
    assert not store.unlisted()
    assert store.header.answer == ("label" if target == "mood" else "text")
    opened = open_model(fetch(model))
    assert isinstance(opened, LanguageModel)
    assert store.header.hidden == opened.hidden_size
    config = ModelConfig(**training_result(model)["model"])
    plain = config.model_copy(update={"lora_rank": 0})
    pretrained = LanguageModel.from_base(
        find_base_model(config.base_model), plain, PreparedData(Path(data.uri))
    )
    step = squared_step_norm(opened, before_training(config, PreparedData(Path(data.uri)), SEED))
    assert store.header.squared_step_norm == pytest.approx(step, rel=1e-5)
    trainable = {name for name, parameter in opened.named_parameters() if parameter.requires_grad}
    assert set(store.header.parameters) <= trainable
    assert (set(store.header.parameters) == trainable) == (target == "sums" or lora_rank > 0)
    shards = shards_of(store)
    assert set(shards) == {("sums", "train"), ("more_sums", "train"), ("mood", "train"), (target, "val")}
    for task in ("sums", "mood"):
        first = shards[task, "train"][0]
        for row in (0, 3, 7):
            expected = expected_row(opened, store.header.parameters, PreparedData(Path(data.uri)), task, row)
            losses, _, _ = scored_row(pretrained, PreparedData(Path(data.uri)), task, row)
            expected["base_margin"] = -np.log(np.expm1(losses.sum().item()))
            assert abs(expected["base_margin"] - expected["margin"]) > 0.01
            for name, value in expected.items():
                found = getattr(first, name)[row]
                assert np.linalg.norm(found - value) < 2e-3 * np.linalg.norm(value), (task, row, name)

    config = SubsetEstimationConfig(random_subsets=10, random_baseline_draws=2)
    selection = Selection.read(fetch(estimate_subsets(config, output, str(tmp_path))))
    assert selection.target == target
    assert np.isfinite(selection.estimated_loss)
    evaluation = open_estimator(config, store).evaluation
    assert evaluation == "cross_entropy"


@pytest.mark.parametrize(("family", "lora_rank"), [("llama_tied", 0), ("llama", 4)])
def test_both_weights_have_a_store(family: str, lora_rank: int, tmp_path: Path) -> None:
    """With fresh adapters, whose B is zero, the pretrained model's losses are those of the base alone."""
    data = prepared(tmp_path, "sums")
    model = trained(tmp_path, data, family, lora_rank, embeddings=False)
    output = run(data, model, tmp_path, base_weights=True)
    base = GradientStore(output.metadata["base_uri"], output.metadata["base_digest"])
    meta = GradientStore(output.uri, output.digest)
    assert base.header.parameters == meta.header.parameters
    assert base.header.model_digest != meta.header.model_digest
    settings = ModelConfig(base_model=str(tmp_path / "base" / family), max_length=48)
    prepared_data = PreparedData(Path(data.uri))
    plain = LanguageModel.from_base(find_base_model(settings.base_model), settings, prepared_data)
    examples = plain.encode(prepared_data.split("sums", "val"), "sums")
    with torch.no_grad():
        losses = plain.answers(plain.batch(examples)).losses().numpy()
    shards = list(base.read("sums", "val"))
    assert np.allclose(np.concatenate([shard.loss for shard in shards]), losses, rtol=1e-5)
    again = run(data, model, tmp_path / "again", base_weights=True)
    assert again.metadata["base_digest"] == base.digest


def extractor(root: Path, family: str, **settings: Any) -> tuple[GradientExtractor, Any]:
    data = prepared(root, "sums")
    model = open_model(fetch(trained(root, data, family, 0, embeddings=True)))
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    config = GradientExtractionConfig(**(CONFIG.model_dump() | {"probes": 2} | settings))
    return GradientExtractor(model, names, config), PreparedData(Path(data.uri)).split("sums", "train")


@pytest.mark.parametrize("family", ["qwen3", "t5"])
def test_batches_make_no_difference(family: str, tmp_path: Path) -> None:
    """Rows of other lengths change a row's padding, and how many answer positions its batch has."""
    whole, rows = extractor(tmp_path / "whole", family)
    expected = whole.shard(rows, "sums", lambda count: None)
    assert len(np.unique(expected.positions)) > 2
    for tokens in (1, 60):
        cut, _ = extractor(tmp_path / str(tokens), family, tokens_per_batch=tokens)
        found = cut.shard(rows, "sums", lambda count: None)
        for name in ("loss", "margin", "positions", "gradient", "probe", "hidden"):
            first, second = getattr(found, name), getattr(expected, name)
            assert np.linalg.norm(first - second) < 1e-5 * np.linalg.norm(second), (tokens, name)
    other = whole.shard(rows.select([4, 1]), "sums", lambda count: None)
    assert np.linalg.norm(other.probe - expected.probe[[4, 1]]) < 1e-5 * np.linalg.norm(other.probe)


def test_a_probe_of_the_right_answer_is_its_gradient_times_the_root_of_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Answers.sample

    def sample_right_in_every_other_row(answers: Answers, draws: torch.Tensor) -> torch.Tensor:
        label = sample(answers, draws)
        label[::2] = answers.label[::2]
        return label

    monkeypatch.setattr(Answers, "sample", sample_right_in_every_other_row)
    probes = []
    for share in (-1.0, 1.0):
        monkeypatch.setattr(extraction, "FEW_ROWS", share)
        own, rows = extractor(tmp_path / str(share), "llama")
        probes.append(own.shard(rows, "sums", lambda count: None).probe)
    assert np.linalg.norm(probes[0] - probes[1]) < 1e-5 * np.linalg.norm(probes[0])


def test_scores_are_computed_at_answer_positions_alone(tmp_path: Path) -> None:
    extraction, rows = extractor(tmp_path, "llama")
    seen: list[Answers] = []
    answers = extraction.model.answers
    extraction.model.answers = lambda *inputs: seen.append(answers(*inputs)) or seen[-1]  # type: ignore[method-assign, func-returns-value]
    extraction.shard(rows, "sums", lambda count: None)
    longest = max(len(example["label"]) for example in extraction.model.encode(rows, "sums"))
    assert [each.logits.shape[:2] for each in seen] == [(len(rows), longest)]


def test_a_batch_that_does_not_fit_is_halved_and_a_row_that_does_not_is_named(tmp_path: Path) -> None:
    whole, rows = extractor(tmp_path / "whole", "gpt2")
    expected = whole.shard(rows, "sums", lambda count: None)
    halving, _ = extractor(tmp_path / "halving", "gpt2")
    longest = max(token_count(example) for example in halving.model.encode(rows, "sums"))

    def allocate(fits: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, inputs: dict[str, Any]) -> None:
            if inputs["input_ids"].numel() > fits:
                raise torch.OutOfMemoryError("CUDA out of memory.")

        return hook

    assert isinstance(halving.model, LanguageModel)
    handle = halving.model.lm.register_forward_pre_hook(allocate(longest), with_kwargs=True)
    done: list[int] = []
    found = halving.shard(rows, "sums", done.append)
    assert sum(done) == len(rows)
    assert halving.tokens < CONFIG.tokens_per_batch
    assert np.linalg.norm(found.gradient - expected.gradient) < 1e-5 * np.linalg.norm(expected.gradient)
    handle.remove()
    halving.model.lm.register_forward_pre_hook(allocate(5), with_kwargs=True)
    message = r"Row 'sums-train-\d+' of task 'sums' with its \d+ tokens does not fit into the GPU's memory"
    with pytest.raises(InputError, match=message):
        halving.shard(rows, "sums", done.append)
