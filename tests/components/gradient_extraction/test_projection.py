"""Projected inner products against exact ones: no bias, and the error of a Gaussian projection."""

import copy
import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gradsift.components import data_preparation
from gradsift.components.gradient_extraction.per_example import GradientSketcher
from gradsift.components.gradient_extraction.projection import Projection
from gradsift.components.shared.base_model import PACKAGED_MINILM, find_base_model
from gradsift.components.shared.encoder_classifier import EncoderClassifier, Head

CPU = torch.device("cpu")
DIMENSION = 200
WIDTH = 8192
ROWS = 8


def errors(exact: Tensor, project: Callable[[int], Tensor], seeds: int) -> Tensor:
    """Return projected minus exact inner products of all pairs of `ROWS` vectors, [seeds, pairs]."""
    pairs = torch.triu_indices(len(exact), len(exact))
    found = [project(seed) for seed in range(seeds)]
    grams = torch.stack([each @ each.T - exact for each in found])
    return grams[:, pairs[0], pairs[1]]


def gaussian_error(exact: Tensor, dimension: int) -> Tensor:
    """Root mean square error of a Gaussian projection for every pair, [pairs]."""
    pairs = torch.triu_indices(len(exact), len(exact))
    squares = exact.diagonal()
    variance = (squares.unsqueeze(1) * squares + exact**2) / dimension
    return variance[pairs[0], pairs[1]].sqrt()


def check_unbiased(found: Tensor) -> None:
    """Every pair's mean error is within 3 standard errors of zero, but for the one of 100 that chance allows."""
    scores = found.mean(0).abs() / (found.std(0) / len(found) ** 0.5)
    assert (scores < 3).float().mean() >= 0.97
    assert scores.max() < 4


def ratio_to_gaussian(found: Tensor, exact: Tensor, dimension: int = DIMENSION) -> float:
    return float((found / gaussian_error(exact, dimension)).square().mean().sqrt())


def like_gradients(shape: tuple[int, ...], share: float) -> Tensor:
    """Random vectors that have a common part, with the heavy tails that gradients have."""
    generator = torch.Generator().manual_seed(1)
    own = torch.randn(ROWS, *shape, generator=generator) ** 3
    return own + share * torch.randn(1, *shape, generator=generator) ** 3


def fold(vectors: dict[str, Tensor], seed: int, dimension: int = DIMENSION) -> Tensor:
    sizes = {name: each.shape[1] for name, each in vectors.items()}
    projection = Projection(sizes, {}, dimension, WIDTH, seed, CPU)
    sketch = torch.zeros(ROWS, WIDTH)
    for name, each in vectors.items():
        projection.add(sketch, name, each.clone())
    return projection.finish(sketch)


def khatri_rao(layers: dict[str, tuple[Tensor, Tensor]], seed: int) -> Tensor:
    shapes = {name: (g.shape[-1], a.shape[-1]) for name, (g, a) in layers.items()}
    sizes = {name: outputs * inputs for name, (outputs, inputs) in shapes.items()}
    projection = Projection(sizes, shapes, DIMENSION, DIMENSION, seed, CPU)
    total = torch.zeros(ROWS, DIMENSION)
    for name, (gradient, entry) in layers.items():
        total += projection.khatri_rao(name, gradient, projection.map_input(name, entry))
    return total


def weight_gram(layers: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    weights = [torch.einsum("nto,nti->noi", g, a).flatten(1) for g, a in layers.values()]
    return sum((each @ each.T for each in weights), torch.zeros(ROWS, ROWS))


@pytest.mark.parametrize("share", [0.0, 2.0])
def test_folded_inner_products_are_unbiased_and_as_exact_as_gaussian_ones(share: float) -> None:
    vectors = {"a": like_gradients((30_000,), share), "b": like_gradients((500,), share)}
    exact = sum((each @ each.T for each in vectors.values()), torch.zeros(ROWS, ROWS))
    found = errors(exact, lambda seed: fold(vectors, seed), seeds=60)
    check_unbiased(found)
    assert ratio_to_gaussian(found, exact) <= 1.2


def test_every_block_is_an_unbiased_projection_of_its_own() -> None:
    vectors = {"a": like_gradients((3_000,), 1.0)}
    exact = vectors["a"] @ vectors["a"].T
    projected = [fold(vectors, seed) for seed in range(60)]
    for block in range(4):
        columns = slice(block * 50, (block + 1) * 50)
        found = errors(exact, lambda seed, columns=columns: projected[seed][:, columns] * 2.0, seeds=60)
        check_unbiased(found)
        assert ratio_to_gaussian(found, exact, dimension=50) <= 1.2


@pytest.mark.parametrize("tokens", [1, 12])
def test_linear_layers_are_unbiased_and_as_exact_as_gaussian_ones(tokens: int) -> None:
    """Rank-1 gradients (one token) of independent directions, and gradients of many tokens."""
    generator = torch.Generator().manual_seed(0)
    layers = {
        f"layer{index}": (
            torch.randn(ROWS, tokens, 48, generator=generator),
            torch.randn(ROWS, tokens, 64, generator=generator),
        )
        for index in range(8)
    }
    exact = weight_gram(layers)
    found = errors(exact, lambda seed: khatri_rao(layers, seed), seeds=150)
    check_unbiased(found)
    assert ratio_to_gaussian(found, exact) <= 1.2


def test_the_worst_case_of_one_layer_is_at_most_twice_the_gaussian_error() -> None:
    """Parallel rank-1 gradients of a single layer: the variance is that of a product of two projections."""
    generator = torch.Generator().manual_seed(0)
    outputs, inputs = torch.randn(1, 1, 300, generator=generator), torch.randn(1, 1, 300, generator=generator)
    scales = torch.linspace(0.5, 2, ROWS).view(ROWS, 1, 1)
    layers = {"layer": (outputs * scales, inputs.expand(ROWS, 1, 300))}
    exact = weight_gram(layers)
    found = errors(exact, lambda seed: khatri_rao(layers, seed), seeds=400)
    check_unbiased(found)
    assert 1.6 < ratio_to_gaussian(found, exact) <= 2.2


def demo_rows(count: int) -> tuple[list[str], list[str]]:
    folder = Path(data_preparation.__file__).parent / "demo_suite"
    with gzip.open(folder / "sst2.train.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in itertools.islice(file, count)]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def test_gradients_of_a_real_model_are_as_exact_as_gaussian_ones() -> None:
    texts, labels = demo_rows(16)
    head = Head.for_tasks("label_embedding", 15.0, 32, "sst2", {"sst2": ["negative", "positive"]})
    model = EncoderClassifier.from_base(find_base_model(PACKAGED_MINILM), head).eval()
    model.freeze_embeddings()
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    inputs = model.tokenize(texts)
    answers = torch.tensor([int(label) for label in labels])
    tasks = torch.zeros(16, dtype=torch.long)

    def losses(model: EncoderClassifier) -> Tensor:
        return functional.cross_entropy(model.scores(tasks, **inputs), answers, reduction="none")

    parameters = dict(model.named_parameters())
    chosen = [parameters[name] for name in names]
    whole = losses(model)
    rows = [torch.autograd.grad(loss, chosen, retain_graph=True) for loss in whole]
    exact = torch.zeros(16, 16)
    for each in zip(*rows, strict=True):
        stacked = torch.stack([gradient.flatten() for gradient in each])
        exact += stacked @ stacked.T

    def project(seed: int) -> Tensor:
        twin = copy.deepcopy(model)
        sketcher = GradientSketcher(twin, names, DIMENSION, WIDTH, seed)
        sketcher.rows = 16
        return sketcher.gradients(losses(twin).sum(), keep_graph=False)

    found = errors(exact, project, seeds=12)
    assert ratio_to_gaussian(found, exact) <= 1.2
