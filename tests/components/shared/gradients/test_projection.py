"""The projection against its definition, and projected inner products against exact ones."""

import copy
import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from scipy.linalg import hadamard
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

from gradsift.components.shared.data import suites
from gradsift.components.shared.gradients import projection as projection_module
from gradsift.components.shared.gradients.counter_hash import random_bits, random_signs
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.gradients.projection import Projection
from gradsift.components.shared.models.base_model import PACKAGED_MINILM, find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head

CPU = torch.device("cpu")
DIMENSIONS = [100, 256, 500]
WIDTH = 4096
WORST_DIMENSION, WORST_WIDTH = 1000, 16384
ROWS = 8


def defined(name: str, gradient: np.ndarray, dimension: int, width: int, seed: int) -> np.ndarray:
    """P^T g of one parameter, entry by entry, as the module's docstring says it; `width` is m."""
    if gradient.ndim == 2:
        rows, columns = gradient.shape
        groups = 1
        while 2 * groups <= min(16, rows, columns, rows * columns // width):
            groups *= 2
        block = [-(-side // groups) for side in gradient.shape]
        row_signs = random_signs(seed, f"rows/{name}", groups * block[0])
        column_signs = random_signs(seed, f"columns/{name}", groups * block[1])
        mixed = np.zeros((groups, *block))
        for row, column in itertools.product(range(rows), range(columns)):
            sign = row_signs[row] * column_signs[column] / groups**0.5
            for group in range(groups):
                mixing = hadamard(groups)[group, [row // block[0], column // block[1]]].prod()
                place = group, row % block[0], column % block[1]
                mixed[place] += gradient[row, column] * sign * mixing
        gradient = mixed.ravel()
    offset = int(random_bits(seed, f"offset/{name}", 1)[0])
    folded = np.zeros(width)
    for entry, sign in enumerate(random_signs(seed, f"signs/{name}", len(gradient))):
        folded[(entry + offset) % width] += gradient[entry] * sign
    dense = random_signs(seed, "dense", width * dimension).reshape(width, dimension)
    return folded @ dense / dimension**0.5


@pytest.mark.parametrize("shape", [(5,), (40,), (3, 4), (10, 7), (16, 32), (50, 9)])
def test_whole_gradients_are_projected_as_defined(shape: tuple[int, ...]) -> None:
    gradient = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    projection = Projection({"w": shape}, 6, 16, 5, CPU)
    assert projection.width == 13
    sketch = projection.empty_sketch(2)
    projection.add_whole(sketch, "w", gradient)
    expected = np.stack([defined("w", each.double().numpy(), 6, 13, 5) for each in gradient])
    assert np.allclose(projection.finish(sketch), expected, atol=1e-5)


@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 70),
    tokens=st.integers(1, 4),
    width=st.sampled_from([1, 8, 100]),
    at_once=st.sampled_from([1, 500, 2**24]),
)
def test_outer_products_and_rows_are_added_as_whole_gradients_are(
    rows: int, columns: int, tokens: int, width: int, at_once: int
) -> None:
    generator = torch.Generator().manual_seed(rows * 71 + columns)
    right = torch.randn(3, tokens, columns, generator=generator)
    index = torch.randint(rows, (3, tokens), generator=generator)
    one_hot = functional.one_hot(index, rows).float()
    left = torch.randn(3, tokens, rows, generator=generator)
    projection = Projection({"w": (rows, columns)}, 1, width, 0, CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(projection_module.NUMBER_BATCH, "cpu", at_once)
        for factor in (left, one_hot):
            found, expected = projection.empty_sketch(3), projection.empty_sketch(3)
            projection.add_outer(found, "w", factor, right)
            projection.add_whole(expected, "w", torch.einsum("ntr,ntc->nrc", factor, right))
            assert torch.allclose(found, expected, atol=1e-4)
        looked_up = projection.empty_sketch(3)
        projection.add_rows(looked_up, "w", index, right)
        assert torch.allclose(looked_up, found, atol=1e-4)


def test_what_is_added_adds_up() -> None:
    projection = Projection({"w": (20, 30), "b": (20,)}, 4, 64, 0, CPU)
    left, right = torch.randn(2, 3, 20), torch.randn(2, 3, 30)
    alone, both = projection.empty_sketch(2), projection.empty_sketch(2)
    projection.add_outer(alone, "w", left, right)
    projection.add_outer(both, "w", left, right)
    projection.add_vector(both, "b", left.sum(1))
    projection.add_outer(both, "w", left, right)
    bias = projection.empty_sketch(2)
    projection.add_vector(bias, "b", left.sum(1))
    assert torch.allclose(both, 2 * alone + bias, atol=1e-4)


def errors(exact: Tensor, projected: list[Tensor]) -> Tensor:
    """Return projected minus exact inner products of all pairs of vectors, [seeds, pairs]."""
    pairs = torch.triu_indices(len(exact), len(exact))
    grams = torch.stack([each @ each.T - exact for each in projected])
    return grams[:, pairs[0], pairs[1]]


def cut_dimension(projected: Tensor, dimension: int) -> Tensor:
    """Return the projected gradients [n, dimension] of a smaller d: the first columns, scaled for it."""
    return projected[:, :dimension] * (projected.shape[1] / dimension) ** 0.5


def check_accuracy(exact: Tensor, projected: list[Tensor]) -> None:
    """Check at every d, from one pass, that inner products are unbiased and nearly as exact as Gaussian ones.

    The mean error over all pairs and that of every pair are within 3 and 4 standard errors of zero. The root mean
    square error is at most 1.2 times sqrt((|x|^2 |y|^2 + (x.y)^2) / d).

    Args:
        exact: inner products, [n, n].
        projected: the same vectors under one seed each, [n, 500].
    """
    pairs = torch.triu_indices(len(exact), len(exact))
    squares = exact.diagonal()
    variance = (squares.unsqueeze(1) * squares + exact**2)[pairs[0], pairs[1]]
    for dimension in DIMENSIONS:
        found = errors(exact, [cut_dimension(each, dimension) for each in projected])
        found /= (variance / dimension).sqrt()
        for errors_of, most in ((found.mean(1, keepdim=True), 3), (found, 4)):
            standard_error = errors_of.std(0) / len(projected) ** 0.5
            assert (errors_of.mean(0).abs() < most * standard_error).all(), f"d={dimension}"
        ratio = float(found.square().mean().sqrt())
        assert 0.8 < ratio <= 1.2, f"d={dimension}"


def check_sketches(exact: Tensor, sketches: list[Tensor]) -> None:
    """Check sketches [n, m] as `check_accuracy` does, with the share of the error that a Gaussian one of d has.

    The dense sign matrix is independent of the sketch and has at most a Gaussian one's error, so that the squares
    add up; without it, few seeds tell the sketch's own error precisely.
    """
    pairs = torch.triu_indices(len(exact), len(exact))
    squares = exact.diagonal()
    variance = (squares.unsqueeze(1) * squares + exact**2)[pairs[0], pairs[1]]
    found = errors(exact, sketches) / variance.sqrt()
    mean, standard_error = found.mean(0).abs(), found.std(0) / len(sketches) ** 0.5
    assert (mean < 4 * standard_error + 1e-5).all()
    assert (1 + WORST_DIMENSION * float(found.square().mean())) ** 0.5 <= 1.2


def like_gradients(shape: tuple[int, ...], share: float) -> Tensor:
    """Random vectors that have a common part, with the heavy tails that gradients have."""
    generator = torch.Generator().manual_seed(1)
    own = torch.randn(ROWS, *shape, generator=generator) ** 3
    return own + share * torch.randn(1, *shape, generator=generator) ** 3


def fold(vectors: dict[str, Tensor], seed: int) -> Tensor:
    projection = Projection({name: each.shape[1:] for name, each in vectors.items()}, 500, WIDTH, seed, CPU)
    sketch = projection.empty_sketch(ROWS)
    for name, each in vectors.items():
        projection.add_vector(sketch, name, each.clone())
    return projection.finish(sketch)


def outer(layers: dict[str, tuple[Tensor, Tensor]], seed: int) -> Tensor:
    shapes = {name: (g.shape[-1], a.shape[-1]) for name, (g, a) in layers.items()}
    projection = Projection(shapes, 500, WIDTH, seed, CPU)
    sketch = projection.empty_sketch(ROWS)
    for name, (gradient, entry) in layers.items():
        projection.add_outer(sketch, name, gradient, entry)
    return projection.finish(sketch)


def weight_gram(layers: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    weights = [torch.einsum("nto,nti->noi", g, a).flatten(1) for g, a in layers.values()]
    return sum((each @ each.T for each in weights), torch.zeros(ROWS, ROWS))


@pytest.mark.parametrize("share", [0.0, 2.0])
def test_folded_vectors(share: float) -> None:
    vectors = {"a": like_gradients((30_000,), share), "b": like_gradients((500,), share)}
    exact = sum((each @ each.T for each in vectors.values()), torch.zeros(ROWS, ROWS))
    check_accuracy(exact, [fold(vectors, seed) for seed in range(60)])


@pytest.mark.parametrize("tokens", [1, 12])
def test_gradients_of_several_linear_layers(tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = {
        f"layer{index}": (
            torch.randn(ROWS, tokens, 192, generator=generator),
            torch.randn(ROWS, tokens, 256, generator=generator),
        )
        for index in range(4)
    }
    check_accuracy(weight_gram(layers), [outer(layers, seed) for seed in range(60)])


@pytest.mark.parametrize("size", [300, 1024])
def test_the_worst_cases_of_one_layer(size: int) -> None:
    """Gradients of rank 1 of a single layer, where nothing averages out, mixed in 8 and 16 groups."""
    generator = torch.Generator().manual_seed(0)
    outputs, inputs = (torch.randn(1, 1, size, generator=generator).expand(ROWS, 1, -1) for _ in "ab")
    scales = torch.linspace(0.5, 2, ROWS).view(ROWS, 1, 1)
    unit = functional.one_hot(torch.tensor(7), size).float()
    layers = {
        "parallel": (outputs * scales, inputs),
        "same output gradient": (outputs, torch.randn(ROWS, 1, size, generator=generator)),
        "one entry": (unit * scales, unit.expand(ROWS, 1, -1)),
        "heavy tails": (outputs**3 * scales, inputs**3),
    }
    sketches: dict[str, list[Tensor]] = {kind: [] for kind in layers}
    for seed in range(400):
        projection = Projection({"w": (size, size)}, 1, WORST_WIDTH, seed, CPU)
        for kind, layer in layers.items():
            sketch = projection.empty_sketch(ROWS)
            projection.add_outer(sketch, "w", *layer)
            sketches[kind].append(sketch)
    for kind, layer in layers.items():
        check_sketches(weight_gram({"w": layer}), sketches[kind])


def test_every_block_is_an_unbiased_projection_of_its_own() -> None:
    vectors = {"a": like_gradients((3_000,), 1.0)}
    exact = vectors["a"] @ vectors["a"].T
    pairs = torch.triu_indices(ROWS, ROWS)
    squares = exact.diagonal()
    expected = ((squares.unsqueeze(1) * squares + exact**2) / 125).sqrt()[pairs[0], pairs[1]]
    projected = [fold(vectors, seed) for seed in range(120)]
    found = [
        errors(exact, [each[:, block * 125 : (block + 1) * 125] * 2.0 for each in projected])
        for block in range(4)
    ]
    for each in found:
        assert (each.mean(0).abs() < 4 * each.std(0) / 120**0.5).all()
        assert 0.8 < float((each / expected).square().mean().sqrt()) < 1.2
    correlations = torch.corrcoef(torch.stack([(each / expected).flatten() for each in found]))
    assert (correlations - torch.eye(4)).abs().max() < 0.15


def demo_rows(count: int) -> tuple[list[str], Tensor]:
    folder = Path(suites.__file__).parent / "demo_suite"
    with gzip.open(folder / "sst2.train.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in itertools.islice(file, count)]
    return [row["text"] for row in rows], torch.tensor([int(row["label"]) for row in rows])


def check_model(
    model: torch.nn.Module,
    names: list[str],
    losses: Callable[[torch.nn.Module], Tensor],
    seeds: int,
) -> None:
    """Compare sketched gradients of a model's rows with plain backward passes, as `check_accuracy` does."""
    chosen = [model.get_parameter(name) for name in names]
    rows = [torch.autograd.grad(loss, chosen, retain_graph=True) for loss in losses(model)]
    exact = torch.zeros(len(rows), len(rows))
    for each in zip(*rows, strict=True):
        stacked = torch.stack([gradient.flatten() for gradient in each])
        exact += stacked @ stacked.T

    def project(seed: int) -> Tensor:
        twin = copy.deepcopy(model)
        sketcher = GradientSketcher(twin, names, 500, WIDTH, seed)
        sketcher.rows = len(rows)
        return sketcher.gradients(losses(twin).sum(), keep_graph=False)

    check_accuracy(exact, [project(seed) for seed in range(seeds)])


@pytest.mark.parametrize("parameters", ["linear", "all", "lora"])
def test_gradients_of_a_classifier(parameters: str) -> None:
    """Its linear layers alone, all of its parameters, and LoRA adapters, one token sequence an example."""
    torch.manual_seed(0)
    size = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
    model = BertForSequenceClassification(BertConfig(**size, vocab_size=300, num_labels=3)).eval()
    if parameters == "lora":
        model = get_peft_model(model, LoraConfig(r=4, target_modules=["query", "value", "dense"])).eval()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    names = [f"{name}.weight" for name in linear] if parameters == "linear" else trained
    ids, answers = torch.randint(300, (ROWS, 12)), torch.arange(ROWS) % 3

    def losses(each: torch.nn.Module) -> Tensor:
        return functional.cross_entropy(each(input_ids=ids).logits, answers, reduction="none")

    check_model(model, names, losses, seeds=40)


@pytest.mark.slow
def test_gradients_of_real_weights_over_real_text() -> None:
    texts, answers = demo_rows(16)
    head = Head.for_tasks("label_embedding", 15.0, 32, "sst2", {"sst2": ["negative", "positive"]})
    model = EncoderClassifier.from_base(find_base_model(PACKAGED_MINILM), head).eval()
    model.freeze_embeddings()
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    inputs, tasks = model.tokenize(texts), torch.zeros(16, dtype=torch.long)

    def losses(each: torch.nn.Module) -> Tensor:
        assert isinstance(each, EncoderClassifier)
        return functional.cross_entropy(each.scores(tasks, **inputs), answers, reduction="none")

    check_model(model, names, losses, seeds=40)
