"""Sketched gradients against the slow, independent way: one autograd call an example, then the same projection."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

from gradsift.components.gradient_extraction.per_example import GradientSketcher
from gradsift.components.gradient_extraction.projection import Projection
from gradsift.components.shared.errors import InputError

SMALL = {
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "vocab_size": 50,
}
ENCODERS = {
    "bert": lambda: BertModel(BertConfig(**SMALL), add_pooling_layer=False),
    "roberta": lambda: RobertaModel(RobertaConfig(**SMALL), add_pooling_layer=False),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(dim=24, n_heads=2, n_layers=2, hidden_dim=40, vocab_size=50)
    ),
}


class Classifier(nn.Module):
    """A head with 2-D inputs on an encoder; a linear layer that is used twice."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.twice = nn.Linear(24, 24)
        self.head = nn.Linear(24, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1)
        pooled = (states * mask).sum(1) / mask.sum(1)
        return self.head(self.twice(torch.tanh(self.twice(pooled))))


def rows_with_padding() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (5, 9), generator=generator)
    mask = torch.ones_like(ids)
    for row, length in enumerate([9, 4, 7, 1, 9]):
        mask[row, length:] = 0
        ids[row, length:] = 1
    return ids, mask, torch.tensor([0, 1, 2, 0, 1])


def exact_gradients(model: nn.Module, names: list[str]) -> list[dict[str, torch.Tensor]]:
    """One plain backward pass an example, unpadded."""
    ids, mask, answers = rows_with_padding()
    parameters = dict(model.named_parameters())
    result = []
    for row in range(len(ids)):
        length = int(mask[row].sum())
        logits = model(ids[row : row + 1, :length], mask[row : row + 1, :length])
        loss = functional.cross_entropy(logits, answers[row : row + 1])
        found = torch.autograd.grad(loss, [parameters[name] for name in names])
        result.append(dict(zip(names, found, strict=True)))
    return result


def sketch(sketcher: GradientSketcher, model: nn.Module) -> torch.Tensor:
    ids, mask, answers = rows_with_padding()
    sketcher.rows = len(ids)
    loss = functional.cross_entropy(model(ids, mask), answers, reduction="sum")
    return sketcher.gradients(loss, keep_graph=False)


def projected(projection: Projection, gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    """The projection's definition, applied to whole gradients one parameter at a time."""
    sketch = torch.zeros(projection.width)
    result = torch.zeros(projection.dimension)
    for name, gradient in gradients.items():
        if name in projection.factors:
            outputs, inputs = projection.factors[name]
            result += torch.einsum("oi,od,id->d", gradient, outputs, inputs) / projection.dimension**0.5
        else:
            signed = gradient.flatten() * projection.signs[name]
            position = (torch.arange(len(signed)) + projection.offsets[name]) % projection.width
            sketch.index_add_(0, position, signed)
    return result + sketch @ projection.dense


@pytest.mark.parametrize("width", [64, 1000])
@pytest.mark.parametrize("kind", ENCODERS)
def test_sketches_equal_projected_autograd_gradients(kind: str, width: int) -> None:
    torch.manual_seed(0)
    model = Classifier(ENCODERS[kind]()).eval()
    names = [name for name, _ in model.named_parameters()]
    exact = exact_gradients(model, names)
    sketcher = GradientSketcher(model, names, dimension=32, width=width, seed=3)
    expected = torch.stack([projected(sketcher.projection, gradients) for gradients in exact])
    found = sketch(sketcher, model)
    assert torch.linalg.norm(found - expected) < 1e-5 * torch.linalg.norm(expected)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.embeddings.word_embeddings.weight",
        "encoder.embeddings.position_embeddings.weight",
        "encoder.encoder.layer.0.attention.self.query.weight",
        "encoder.encoder.layer.1.output.LayerNorm.weight",
        "encoder.encoder.layer.1.output.dense.bias",
        "twice.weight",
        "head.bias",
    ],
)
def test_one_parameter_alone_is_sketched(name: str) -> None:
    torch.manual_seed(0)
    model = Classifier(ENCODERS["bert"]()).eval()
    exact = exact_gradients(model, [name])
    sketcher = GradientSketcher(model, [name], dimension=64, width=4096, seed=0)
    expected = torch.stack([projected(sketcher.projection, gradients) for gradients in exact])
    found = sketch(sketcher, model)
    assert torch.linalg.norm(found - expected) < 1e-5 * torch.linalg.norm(expected)


def test_a_parameter_without_a_rule_is_an_error() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.PReLU())
    with pytest.raises(InputError, match=r"'1.weight' cannot be extracted: its module is a PReLU"):
        GradientSketcher(model, ["0.weight", "1.weight"], dimension=4, width=8, seed=0)
