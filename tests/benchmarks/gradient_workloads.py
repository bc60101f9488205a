"""The models and real texts that gradient extraction is timed on, and how its costs are measured."""

import gc
import gzip
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from gradsift.components.gradient_extraction.gradients.extraction import (
    GradientExtractor,
    batches_by_tokens,
    token_count,
)
from gradsift.components.gradient_extraction.gradients.starting_point import StartingPoint
from gradsift.components.shared.data import suites
from gradsift.components.shared.data.prepared_data import PreparedData, PreparedTask, write_index
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.models.base_model import PACKAGED_MINILM, find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.precision import autocast
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Precision
from tests.benchmarks.peer_model import trainable

DIMENSION, WIDTH, ROWS, TOKENS = 512, 8192, 128, 2048
CPU = torch.device("cpu")
PLAIN = "forward, backward"
TASK, VOCABULARY = "sst2", 2048
WORKLOADS = ["small", "minilm", "lora", "llama"]
"""`small`: BERT of width 256 and 4 layers, all parameters. `minilm`: real weights, all parameters; there is also
`minilm_frozen_embeddings`, as gradsift has it by default. `lora`: rank 8 on BERT of width 768 and 6 layers.
`llama`: a causal language model of width 256, 4 layers and 2048 tokens, all parameters."""

Batches = Sequence[Mapping[str, Tensor]]
Work = Callable[[], None]


@dataclass(frozen=True)
class Cost:
    """Costs of going through all batches once.

    Attributes:
        cpu_seconds: CPU time of all threads.
        wall_seconds: time on the clock.
        ratio: CPU time over that of plain forward and backward passes, the median of pairs run in turn.
    """

    cpu_seconds: float
    wall_seconds: float
    ratio: float

    def figures(self, rows: int) -> dict[str, float]:
        """Return milliseconds a row and the ratio, by the names of the table's columns."""
        return {
            "cpu_ms_a_row": 1e3 * self.cpu_seconds / rows,
            "wall_ms_a_row": 1e3 * self.wall_seconds / rows,
            "cpu_ratio": self.ratio,
        }


def make_model(workload: str) -> TaskModel:
    """Return the workload's model in evaluation mode; what is trained requires gradients."""
    if workload == "llama":
        return _language_model()
    return make_encoder(workload)


def make_encoder(workload: str) -> EncoderClassifier:
    """Return the model of a workload that is an encoder's."""
    head = Head.for_tasks("label_embedding", 15.0, 128, TASK, {TASK: ["negative", "positive"]})
    if workload.startswith("minilm"):
        model = EncoderClassifier.from_base(find_base_model(PACKAGED_MINILM), head)
        if workload == "minilm_frozen_embeddings":
            model.freeze_embeddings()
        return model.eval()
    width, layers = (256, 4) if workload == "small" else (768, 6)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = AutoTokenizer.from_pretrained(find_base_model(PACKAGED_MINILM).folder)
        tokenizer.save_pretrained(folder)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            intermediate_size=4 * width,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            BertModel(config, add_pooling_layer=False).save_pretrained(folder)
            model = EncoderClassifier.from_base(find_base_model(folder), head)
            if workload == "lora":
                adapters = LoraConfig(r=8, target_modules=["query", "key", "value", "dense"])
                inject_adapter_in_model(adapters, model.encoder)
                for name, parameter in model.named_parameters():
                    if "lora_B" in name:
                        nn.init.normal_(parameter, std=0.02)
    return model.eval()


def _language_model() -> LanguageModel:
    """Return a Llama of random weights with a tokenizer trained on the sentences themselves."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["</s>"], show_progress=False)
    tokenizer.train_from_iterator([text for text, _ in _sentences(2048)], trainer)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=688,
    )
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
        write_index(
            Path(folder), TASK, TASK, [PreparedTask(name=TASK, kind="generation", labels=[], rows={})]
        )
        settings = ModelConfig(base_model=folder, max_length=128)
        return LanguageModel.from_base(find_base_model(folder), settings, PreparedData(Path(folder))).eval()


def make_batches(model: TaskModel, rows: int = ROWS, tokens: int = TOKENS) -> list[dict[str, Tensor]]:
    """Return real sentences, their lengths as they come, in batches of like lengths.

    An encoder is asked for a sentence's sentiment, a language model for its second half.
    """
    examples = model.encode(real_rows(rows), TASK)
    lengths = [token_count(example) for example in examples]
    return [
        model.batch([examples[row] for row in batch])
        for batch in batches_by_tokens(range(rows), lengths, tokens)
    ]


def real_rows(rows: int) -> dict[str, Any]:
    """Return sentences as the rows of a task of either kind, column by column."""
    sentences = _sentences(rows)
    return {
        "id": [str(row) for row in range(rows)],
        "text": [text for text, _ in sentences],
        "text_pair": [None] * rows,
        "label": [label for _, label in sentences],
        "prompt": [text[: len(text) // 2] for text, _ in sentences],
        "completion": [text[len(text) // 2 :] for text, _ in sentences],
        "rationale": [None] * rows,
    }


def plain(model: TaskModel, batches: Batches, precision: Precision = "float32") -> Work:
    """Return the yardstick: a forward and a backward pass a batch, with weight gradients."""

    def work() -> None:
        for batch in batches:
            model.zero_grad(set_to_none=True)
            with autocast(CPU, precision):
                total = model.answers(batch).losses().sum()
            total.backward()

    return work


def sketched(model: TaskModel, batches: Batches, probes: int = 0, precision: Precision = "float32") -> Work:
    """Return gradsift's way with so many probes; `model` is frozen and gets hooks."""
    sketcher = GradientSketcher(model, list(trainable(model)), DIMENSION, WIDTH, seed=0)

    def work() -> None:
        for batch in batches:
            _gradients(model, sketcher, batch, probes, precision)

    return work


def extracted(model: TaskModel, rows: int, base_margins: bool) -> Work:
    """Return the extraction of a shard, from rows to arrays, with margins at other weights or without."""
    names = list(trainable(model))
    start = {name: 0.99 * model.get_parameter(name).detach() for name in names}
    config = GradientExtractionConfig(dimension=DIMENSION, projection_width=WIDTH, precision="float32")
    extractor = GradientExtractor(model, names, config, StartingPoint(model, start) if base_margins else None)
    columns: Any = real_rows(rows)

    def work() -> None:
        extractor.shard(columns, TASK, lambda count: None)

    return work


def loss_gradients(model: TaskModel, batches: Batches, dimension: int, seed: int) -> Tensor:
    """Return gradsift's projected loss gradients in float32, [n, d]; `model` is frozen and gets hooks."""
    sketcher = GradientSketcher(model, list(trainable(model)), dimension, WIDTH, seed)
    return torch.cat([_gradients(model, sketcher, batch, 0, "float32") for batch in batches])


def _gradients(
    model: TaskModel,
    sketcher: GradientSketcher,
    batch: Mapping[str, Tensor],
    probes: int,
    precision: Precision,
) -> Tensor:
    """Return the loss gradients of a batch, and compute so many probes too."""
    sketcher.rows = len(batch["input_ids"])
    with autocast(CPU, precision):
        answers = model.answers(batch)
    draws = torch.full(answers.label.shape, 0.5, dtype=torch.float64)
    gradients = sketcher.gradients(answers.losses().sum(), keep_graph=probes > 0)
    for left in reversed(range(probes)):
        sampled = answers.detached().sample(draws)
        sketcher.gradients(answers.probe_losses(sampled).sum(), keep_graph=left > 0)
    return gradients


def costs(yardstick: Work, works: dict[str, Work], rounds: int, warm_up: bool = True) -> dict[str, Cost]:
    """Time works in turn with the yardstick, after a round that does not count where `warm_up` is set."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in (PLAIN, *works)}
    for round_ in range(-warm_up, rounds):
        for name, work in {PLAIN: yardstick, **works}.items():
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            work()
            if round_ >= 0:
                times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        name: Cost(
            statistics.median(cpu for cpu, _ in taken),
            statistics.median(wall for _, wall in taken),
            statistics.median(cpu / base for (cpu, _), (base, _) in zip(taken, times[PLAIN], strict=True)),
        )
        for name, taken in times.items()
    }


def peak_memory(workload: str, probes: int | None) -> float:
    """Return how many bytes a process needs beyond the model, for plain passes (None) or with so many probes.

    Large blocks are given back to the system at once, so that what is counted is in use, not set aside.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    try:
        with get_context("spawn").Pool(1) as pool:
            return pool.apply(_peak_memory, (workload, probes))
    finally:
        del os.environ["MALLOC_MMAP_THRESHOLD_"]


def _peak_memory(workload: str, probes: int | None) -> float:
    model = make_model(workload)
    batches = make_batches(model)
    with torch.no_grad():
        model.answers({name: values[:1] for name, values in batches[-1].items()})
    gc.collect()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    work = plain(model, batches) if probes is None else sketched(model, batches, probes)
    work()
    return _status("VmHWM") - before


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


@cache
def _sentences(count: int) -> list[tuple[str, int]]:
    folder = Path(suites.__file__).parent / "demo_suite"
    with gzip.open(folder / "sst2.train.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in itertools.islice(file, count)]
    return [(row["text"], int(row["label"])) for row in rows]


def accuracy(exact: Tensor, features: list[Tensor], dimension: int) -> float:
    """Return the RMS error of features' inner products over that of Gaussian projections of a dimension.

    Args:
        exact: inner products, [n, n].
        features: one draw of the features each, [n, k].
        dimension: the numbers an example that the Gaussian projection has.
    """
    upper = torch.triu_indices(len(exact), len(exact))
    squares = exact.diagonal()
    variance = ((squares[:, None] * squares + exact**2) / dimension)[upper[0], upper[1]]
    found = [(each.double() @ each.double().T - exact)[upper[0], upper[1]] for each in features]
    return float((torch.stack(found).square() / variance).mean().sqrt())
