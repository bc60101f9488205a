"""The checks before the first gradient is stored notice what would otherwise be stored silently."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gradsift.components.gradient_extraction.gradients.extraction import GradientExtractor
from gradsift.components.shared.errors import ExtractionError
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.gradients.projection import Projection
from gradsift.components.shared.gradients.self_check import check_gradients, check_projection
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig

SHAPES = {"bias": (70,), "small": (4, 9), "large": (64, 100)}


def projection(seed: int = 0) -> Projection:
    return Projection(SHAPES, 12, 64, seed, torch.device("cpu"))


@pytest.mark.parametrize("seed", range(20))
def test_a_right_projection_passes(seed: int) -> None:
    check_projection(projection(seed), SHAPES)


@pytest.mark.parametrize(
    ("break_it", "name"),
    [
        (lambda found: found.dense.zero_(), "bias"),
        (lambda found: found.dense.neg_(), "bias"),
        (lambda found: found.signs["small"].zero_(), "small"),
        (lambda found: found.maps["large"].mixing.fill_(1), "large"),
        (lambda found: found.maps["large"].row_signs.fill_(1), "large"),
        (lambda found: found.offsets.update(large=found.offsets["large"] + 1), "large"),
    ],
)
def test_a_device_that_computes_wrongly_is_noticed(
    break_it: Callable[[Projection], object], name: str
) -> None:
    found = projection()
    break_it(found)
    with pytest.raises(ExtractionError, match=f"The projection of parameter '{name}' is wrong on cpu"):
        check_projection(found, SHAPES)


class Model(nn.Module):
    """Two layers; in the wrong ways a weight also works outside its module, or rows see each other."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 1)

    def losses(self, states: Tensor) -> Tensor:
        hidden = self.first(states)
        if self.way == "weight outside":
            hidden = hidden + torch.tanh(states) @ self.first.weight
        if self.way == "rows together":
            hidden = hidden - hidden.mean(0)
        return self.second(torch.tanh(hidden)).squeeze(1) ** 2


def check(way: str) -> None:
    model = Model(way)
    sketcher = GradientSketcher(model, ["first.weight", "first.bias", "second.weight"], 4, 64, 0)
    states = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    singles = [lambda row=row: model.losses(row.unsqueeze(0)).sum() for row in states]
    check_gradients(sketcher, model, singles, lambda: model.losses(states))


def test_right_gradients_pass() -> None:
    check("right")


def test_a_weight_that_works_outside_its_module_is_named() -> None:
    with pytest.raises(
        ExtractionError, match=r"parameter 'first.weight' cannot be extracted: sketched gradients"
    ):
        check("weight outside")


def test_rows_that_see_each_other_are_noticed() -> None:
    with pytest.raises(ExtractionError, match="computes rows separately"):
        check("rows together")


def test_an_extractor_with_zeros_for_a_projection_does_not_start(tiny_encoder: Path) -> None:
    from datasets import Dataset

    head = Head.for_tasks("linear", 15.0, 32, "mood", {"mood": ["negative", "positive"]})
    model = EncoderClassifier.from_base(find_base_model(str(tiny_encoder)), head)
    names = [name for name, each in model.named_parameters() if each.requires_grad]
    assert "classifier.bias" in names
    config = GradientExtractionConfig(dimension=16, projection_width=256, precision="float32")
    extractor = GradientExtractor(model, names, config)
    columns = {"id": ["a", "b"], "text": ["good", "not good at all"], "text_pair": [None, None]}
    rows = Dataset.from_dict({**columns, "label": [1, 0]})
    nn.init.normal_(model.classifier.weight)
    extractor.check(rows, "mood")
    assert not any(each.requires_grad for each in model.parameters())
    extractor.sketcher.projection.dense.zero_()
    with pytest.raises(ExtractionError, match="is wrong on cpu"):
        extractor.check(rows, "mood")
