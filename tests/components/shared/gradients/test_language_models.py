"""Sketched gradients of language models against one plain autograd call a row, for every trained parameter."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from transformers import MixtralConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from gradsift.components.shared.data.prepared_data import PreparedData, PreparedTask, write_index
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.gradients.projection import Projection
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.labels import NO_ANSWER, last_answer
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.recomputation import LayerRecomputation
from gradsift.components.shared.models.task_model import Example
from gradsift.components.shared.parameters.model import ModelConfig
from tests.tiny_language_models import CONFIGS, CONVERSATIONS, make_base

ROWS = {
    "id": ["a", "b", "c", "d"],
    "prompt": [
        "two and two",
        "name the capital of the country and then its river",
        "say",
        "reply with the number",
    ],
    "completion": ["four", "one", "the larger of the two numbers", "ten"],
    "rationale": [None, "first the country", None, None],
}
CAUSAL = [family for family in CONFIGS if not family.endswith(("t5", "bart"))]


def make(folder: Path, family: str, lora: bool = False) -> tuple[LanguageModel, list[str]]:
    """Return a model whose norms, biases and adapters are away from 0 and 1, and its trained parameters."""
    write_index(folder, "suite", "sums", [PreparedTask(name="sums", kind="generation", labels=[], rows={})])
    base = find_base_model(str(make_base(folder / "base", family)))
    config = ModelConfig(base_model=base.name, max_length=64, lora_rank=4 * lora)
    torch.manual_seed(0)
    model = LanguageModel.from_base(base, config, PreparedData(folder))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 or "lora_" in name:
            std = 0.05 if "lora_" in name else 0.2
            nn.init.normal_(parameter, mean=float("norm" in name.lower()), std=std)
    return model, [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def losses(model: LanguageModel, examples: list[Example]) -> Tensor:
    return model.answers(model.batch(examples)).losses()


def exact_gradients(model: LanguageModel, names: list[str], examples: list[Example]) -> dict[str, Tensor]:
    """One plain backward pass an unpadded example: {name: [rows, *shape]}."""
    parameters = [model.get_parameter(name) for name in names]
    rows = [torch.autograd.grad(losses(model, [example]).sum(), parameters) for example in examples]
    return {name: torch.stack(each) for name, each in zip(names, zip(*rows, strict=True), strict=True)}


def of_whole(projection: Projection, gradients: dict[str, Tensor]) -> Tensor:
    result = projection.empty_sketch(len(next(iter(gradients.values()))))
    for name, gradient in gradients.items():
        projection.add_whole(result, name, gradient)
    return result


def sketch(sketcher: GradientSketcher, model: LanguageModel, examples: list[Example]) -> Tensor:
    sketcher.rows = len(examples)
    return sketcher.sketches(losses(model, examples).sum(), keep_graph=False)


def close(first: Tensor, second: Tensor, least: float = 0.0) -> bool:
    return bool(torch.linalg.norm(first - second) < 1e-5 * max(float(torch.linalg.norm(second)), least))


@pytest.mark.parametrize(
    ("family", "lora"),
    [
        *((family, False) for family in CONFIGS),
        ("qwen2", True),
        ("gpt2", True),
        pytest.param("t5", True, marks=pytest.mark.slow),
    ],
)
def test_every_trained_parameter_alone_equals_autograd(family: str, lora: bool, tmp_path: Path) -> None:
    """The sketch is so wide that every entry of the gradient keeps a place of its own."""
    model, names = make(tmp_path, family, lora)
    examples = model.encode(ROWS, "sums")
    exact = exact_gradients(model, names, examples)
    assert all(("lora_A" in name or "lora_B" in name) == lora for name in names)
    for name in names:
        twin = copy.deepcopy(model)
        sketcher = GradientSketcher(twin, [name], dimension=4, width=2**14, seed=0)
        expected = of_whole(sketcher.projection, {name: exact[name]})
        assert sketcher.projection.signs[name].numel() <= sketcher.projection.width
        # Some gradients are zero by the model's symmetry, such as that of an attention key's bias.
        assert close(sketch(sketcher, twin, examples), expected, least=0.01), name


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("family", CONFIGS)
def test_all_together_equal_autograd_in_any_company(family: str, lora: bool, tmp_path: Path) -> None:
    """With layers mixed and folded; other rows change a row's padding and the number of its answer positions."""
    model, names = make(tmp_path, family, lora)
    examples = model.encode(ROWS, "sums")
    exact = exact_gradients(model, names, examples)
    sketcher = GradientSketcher(model, names, dimension=8, width=300, seed=3)
    expected = of_whole(sketcher.projection, exact)
    assert close(sketch(sketcher, model, examples), expected)
    for rows in ([2], [0, 3], [3, 1, 1]):
        assert close(sketch(sketcher, model, [examples[row] for row in rows]), expected[rows]), rows


@pytest.mark.parametrize(("family", "lora"), [*((family, False) for family in CONFIGS), ("llama_tied", True)])
def test_recomputed_layers_give_the_same_gradients_and_keep_less(
    family: str, lora: bool, tmp_path: Path
) -> None:
    """Through two backward passes, as those of a loss and a probe."""
    model, names = make(tmp_path, family, lora)
    examples = model.encode(ROWS, "sums")
    recomputation = LayerRecomputation(model)
    sketcher = GradientSketcher(model, names, dimension=8, width=300, seed=3)
    sketcher.rows = len(examples)
    found: dict[bool, list[Tensor]] = {}
    kept = {True: 0, False: 0}

    def keep(saved: Tensor) -> Tensor:
        kept[recomputation.on] += saved.nbytes
        return saved

    for on in (False, True):
        recomputation.on = on
        with saved_tensors_hooks(keep, lambda saved: saved):
            loss = losses(model, examples).sum()
        found[on] = [sketcher.sketches(loss, keep_graph) for keep_graph in (True, False)]
    assert all(torch.equal(each, found[False][0]) for each in (*found[False], *found[True]))
    assert 0 < kept[True] < kept[False] / 2


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2", "t5", "bart"])
def test_gradients_of_conversations_equal_autograd(family: str, tmp_path: Path) -> None:
    """The loss is the mean over all learned answers, whatever stands between them and whatever rows are beside."""
    model, names = make(tmp_path, family)
    examples = model.encode(CONVERSATIONS, "sums")
    between = [NO_ANSWER in example["label"] for example in examples]
    assert between == [not model.settings.encoder_decoder, False, False, False]
    parameters = [model.get_parameter(name) for name in names]
    rows = [torch.autograd.grad(plain_loss(model, example), parameters) for example in examples]
    exact = {name: torch.stack(each) for name, each in zip(names, zip(*rows, strict=True), strict=True)}
    sketcher = GradientSketcher(model, names, dimension=8, width=300, seed=3)
    expected = of_whole(sketcher.projection, exact)
    assert close(sketch(sketcher, model, examples), expected)
    assert close(sketch(sketcher, model, [examples[0], examples[3]]), expected[[0, 3]])


def plain_loss(model: LanguageModel, example: Example) -> Tensor:
    """The loss of the library for one row without padding, by a label for every token."""
    prompt, label = example["input_ids"], example["label"]
    if model.settings.encoder_decoder:
        loss: Tensor = model.lm(input_ids=torch.tensor([prompt]), labels=torch.tensor([label])).loss
        return loss
    ids = prompt + last_answer(label)
    labels = [NO_ANSWER] * (len(ids) - len(label)) + label
    loss = model.lm(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]), use_cache=False).loss
    return loss


@pytest.mark.parametrize("family", CAUSAL)
def test_padding_on_the_right_gives_the_same_gradients(family: str, tmp_path: Path) -> None:
    """As a plain call of the model with all its scores would compute it."""
    model, names = make(tmp_path, family)
    examples = model.encode(ROWS, "sums")
    sketcher = GradientSketcher(model, names, dimension=8, width=300, seed=3)
    expected = sketch(sketcher, model, examples).clone()
    longest = max(len(each["input_ids"]) + len(each["label"]) for each in examples)
    ids, label = torch.full((4, longest), model.padding), torch.full((4, longest), NO_ANSWER)
    mask = torch.zeros(4, longest, dtype=torch.long)
    for row, each in enumerate(examples):
        start, end = len(each["input_ids"]), len(each["input_ids"]) + len(each["label"])
        ids[row, :end] = torch.tensor(each["input_ids"] + each["label"])
        label[row, start:end] = torch.tensor(each["label"])
        mask[row, :end] = 1
    logits = model.lm(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
    total = Answers(logits[:, :-1], label[:, 1:]).losses().sum()
    assert close(sketcher.sketches(total, keep_graph=False), expected)


def test_a_tied_weight_has_the_gradient_of_both_its_uses(tmp_path: Path) -> None:
    model, names = make(tmp_path, "llama_tied")
    [tied] = [name for name in names if "embed_tokens" in name]
    assert not [name for name in names if "lm_head" in name]
    examples = model.encode(ROWS, "sums")
    both = exact_gradients(model, [tied], examples)[tied]
    read = functional.one_hot(model.batch(examples)["input_ids"], both.shape[1]).amax(1).bool()
    assert torch.linalg.norm(both[~read]) > 0.1 * torch.linalg.norm(both), (
        "the output layer's use adds to all rows"
    )


@pytest.mark.parametrize("family", ["llama_tied", "llama", "gpt2", "t5"])
def test_frozen_embeddings_leave_tables_and_output_layer_out(family: str, tmp_path: Path) -> None:
    model, before = make(tmp_path, family)
    model.freeze_embeddings()
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    tables = ("embed", "wte", "wpe", "shared", "relative_attention_bias", "lm_head")
    assert set(before) - set(names) == {name for name in before if any(table in name for table in tables)}
    examples = model.encode(ROWS, "sums")
    exact = exact_gradients(model, names, examples)
    sketcher = GradientSketcher(model, names, dimension=8, width=300, seed=3)
    assert close(sketch(sketcher, model, examples), of_whole(sketcher.projection, exact))


def test_the_experts_of_a_mixture_are_an_error_by_name() -> None:
    config = MixtralConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=2,
    )
    model = AutoModelForCausalLM.from_config(config)
    names = [name for name, _ in model.named_parameters()]
    message = (
        r"'model.layers.0.mlp.*' cannot be extracted: its module is a Mixtral\w+, expected a linear, norm"
    )
    with pytest.raises(InputError, match=message):
        GradientSketcher(model, names, dimension=4, width=16, seed=0)
