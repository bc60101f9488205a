"""Sketched gradients against the slow, independent way: one autograd call an example, then the same projection."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    DebertaConfig,
    DebertaModel,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    LlamaConfig,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.gradients.projection import Projection

HIDDEN, VOCABULARY = 24, 50
SMALL = {
    "hidden_size": HIDDEN,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "vocab_size": VOCABULARY,
}
GROUPED = {**SMALL, "num_key_value_heads": 1, "head_dim": 12, "pad_token_id": 1}

RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "max_position_embeddings": 16,
    "initializer_range": 0.2,
    "type_vocab_size": 0,
}


class Classifier(nn.Module):
    """A head with 2-D inputs on an encoder; a linear layer that is used twice."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.twice = nn.Linear(HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, 3)

    def forward(self, ids: Tensor, mask: Tensor, answers: Tensor) -> Tensor:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        logits = self.head(self.twice(torch.tanh(self.twice(pooled))))
        return functional.cross_entropy(logits, answers, reduction="none")


class LanguageModel(nn.Module):
    """A causal language model with the mean loss of each row's next tokens."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.model = AutoModelForCausalLM.from_config(config)

    def forward(self, ids: Tensor, mask: Tensor, answers: Tensor) -> Tensor:
        logits = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        losses = functional.cross_entropy(logits.mT, ids[:, 1:], reduction="none") * mask[:, 1:]
        return losses.sum(1) / mask[:, 1:].sum(1)


class LoraModel(LanguageModel):
    """A language model with LoRA in every kind of layer; A and B both away from zero."""

    def __init__(self) -> None:
        super().__init__(LlamaConfig(**GROUPED))
        adapters = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], lora_dropout=0.1)
        self.model = get_peft_model(self.model, adapters)
        for name, parameter in self.model.named_parameters():
            if "lora_" in name:
                nn.init.normal_(parameter, std=0.3)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: Classifier(BertModel(BertConfig(**SMALL), add_pooling_layer=False)),
    "roberta": lambda: Classifier(RobertaModel(RobertaConfig(**SMALL), add_pooling_layer=False)),
    "distilbert": lambda: Classifier(
        DistilBertModel(
            DistilBertConfig(dim=HIDDEN, n_heads=2, n_layers=2, hidden_dim=40, vocab_size=VOCABULARY)
        )
    ),
    "mpnet": lambda: Classifier(MPNetModel(MPNetConfig(**SMALL), add_pooling_layer=False)),
    "deberta": lambda: Classifier(DebertaModel(DebertaConfig(**SMALL, **RELATIVE))),
    "deberta_v2": lambda: Classifier(DebertaV2Model(DebertaV2Config(**SMALL, **RELATIVE))),
    "deberta_v3": lambda: Classifier(
        DebertaV2Model(
            DebertaV2Config(
                **SMALL, **RELATIVE, share_att_key=True, norm_rel_ebd="layer_norm", position_buckets=4
            )
        )
    ),
    "gpt2": lambda: LanguageModel(
        GPT2Config(n_embd=HIDDEN, n_layer=2, n_head=2, n_positions=64, vocab_size=VOCABULARY, pad_token_id=1)
    ),
    "llama_tied": lambda: LanguageModel(LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    "lora": LoraModel,
}


def make(kind: str) -> tuple[nn.Module, list[str]]:
    """Return a model and the names of its trained parameters."""
    torch.manual_seed(0)
    model = MODELS[kind]().eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=float("norm" in name.lower()), std=0.2)
    return model, [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def rows_with_padding() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (5, 9), generator=generator)
    mask = torch.ones_like(ids)
    for row, length in enumerate([9, 4, 7, 2, 9]):
        mask[row, length:] = 0
        ids[row, length:] = 1
    return ids, mask, torch.tensor([0, 1, 2, 0, 1])


def exact_gradients(model: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """One plain backward pass an example, unpadded: {name: [rows, *shape]}."""
    ids, mask, answers = rows_with_padding()
    parameters = dict(model.named_parameters())
    found = []
    for row in range(len(ids)):
        length = int(mask[row].sum())
        part = slice(row, row + 1)
        loss = model(ids[part, :length], mask[part, :length], answers[part])
        found.append(torch.autograd.grad(loss.sum(), [parameters[name] for name in names]))
    return {name: torch.stack(each) for name, each in zip(names, zip(*found, strict=True), strict=True)}


def sketch(sketcher: GradientSketcher, model: nn.Module, rows: list[int] | None = None) -> Tensor:
    chosen = list(range(5)) if rows is None else rows
    sketcher.rows = len(chosen)
    losses = model(*(each[chosen] for each in rows_with_padding()))
    return sketcher.sketches(losses.sum(), keep_graph=False)


def of_whole(projection: Projection, gradients: dict[str, Tensor]) -> Tensor:
    result = projection.empty_sketch(len(next(iter(gradients.values()))))
    for name, gradient in gradients.items():
        projection.add_whole(result, name, gradient)
    return result


@pytest.mark.parametrize("kind", MODELS)
def test_every_parameter_alone_equals_autograd(kind: str) -> None:
    """The sketch is so wide that every entry of the gradient keeps a place of its own."""
    model, names = make(kind)
    exact = exact_gradients(model, names)
    for name in names:
        twin = copy.deepcopy(model)
        sketcher = GradientSketcher(twin, [name], dimension=4, width=2**14, seed=0)
        expected = of_whole(sketcher.projection, {name: exact[name]})
        assert sketcher.projection.signs[name].numel() <= sketcher.projection.width
        assert torch.linalg.norm(expected) == pytest.approx(float(torch.linalg.norm(exact[name])), rel=1e-5)
        error = torch.linalg.norm(sketch(sketcher, twin) - expected)
        # Some gradients are zero by the model's symmetry, such as that of an attention key's bias.
        assert error < 1e-5 * max(float(torch.linalg.norm(expected)), 0.01), name


@pytest.mark.parametrize(("width", "groups"), [(16, 16), (64, 16), (300, 4), (2000, 1)])
@pytest.mark.parametrize("kind", MODELS)
def test_all_parameters_together_equal_autograd(kind: str, width: int, groups: int) -> None:
    """With layers mixed in so many groups, some of which are padded, and folded."""
    model, names = make(kind)
    exact = exact_gradients(model, names)
    sketcher = GradientSketcher(model, names, dimension=8, width=width, seed=3)
    mixed = {each.groups for each in sketcher.projection.maps.values()}
    assert kind == "lora" or groups in mixed
    expected = of_whole(sketcher.projection, exact)
    found = sketch(sketcher, model)
    assert torch.linalg.norm(found - expected) < 1e-5 * torch.linalg.norm(expected)


@pytest.mark.parametrize("kind", MODELS)
def test_a_row_is_the_same_in_any_order_and_company(kind: str) -> None:
    model, names = make(kind)
    sketcher = GradientSketcher(model, names, dimension=8, width=64, seed=3)
    together = sketch(sketcher, model)
    for rows in ([3], [4, 2, 0], [1, 1, 3, 0]):
        part = sketch(sketcher, model, rows)
        assert torch.linalg.norm(part - together[rows]) < 1e-5 * torch.linalg.norm(together[rows])


def test_bf16_is_summed_in_float32() -> None:
    model, names = make("bert")
    twin = copy.deepcopy(model)
    exact = sketch(GradientSketcher(model, names, dimension=8, width=64, seed=0), model)
    sketcher = GradientSketcher(twin, names, dimension=8, width=64, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = sketch(sketcher, twin)
    assert rounded.dtype == torch.float32
    assert 0 < torch.linalg.norm(rounded - exact) < 0.05 * torch.linalg.norm(exact)


def test_a_module_without_a_rule_is_an_error() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.PReLU())
    with pytest.raises(InputError, match=r"'1.weight' cannot be extracted: its module is a PReLU"):
        GradientSketcher(model, ["0.weight", "1.weight"], dimension=4, width=8, seed=0)


class Unusual(nn.Module):
    """Uses a weight outside its module, or a layer for the whole batch at once."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.layer = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, states: Tensor) -> Tensor:
        if self.way == "weight alone":
            return functional.linear(states, self.layer.weight, self.layer.bias)
        if self.way == "tokens as rows":
            return self.layer(states.flatten(0, 1)).view(states.shape)
        return states + self.layer(torch.ones(1, HIDDEN))


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("weight alone", "no call of its module took part in the loss"),
        ("tokens as rows", r"its module maps \[15, 24\] to \[15, 24\] for a batch of 3 examples"),
        ("one for all", r"its module maps \[1, 24\] to \[1, 24\] for a batch of 3 examples"),
    ],
)
def test_a_use_that_hooks_cannot_take_apart_is_an_error(way: str, message: str) -> None:
    model = Unusual(way)
    sketcher = GradientSketcher(model, ["layer.weight"], dimension=4, width=8, seed=0)
    sketcher.rows = 3
    with pytest.raises(InputError, match=f"'layer.weight' cannot be extracted: {message}"):
        sketcher.gradients(model(torch.ones(3, 5, HIDDEN, requires_grad=True)).sum(), keep_graph=False)
