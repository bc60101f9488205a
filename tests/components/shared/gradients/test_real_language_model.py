"""The packaged SmolLM2 with adapters: losses do not depend on padding or company, and gradients equal autograd."""

from pathlib import Path

import pytest
import torch
from torch import nn

from gradsift.components.shared.data.prepared_data import PreparedData, PreparedTask, write_index
from gradsift.components.shared.gradients.per_example import GradientSketcher
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.labels import NO_ANSWER
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.packaged_smollm2 import PACKAGED_SMOLLM2
from gradsift.components.shared.parameters.model import ModelConfig

ROWS = {
    "id": ["a", "b", "c"],
    "prompt": [
        "Write the adjective of the list.\n\nInput: calm, attack, uncover\nOutput:",
        "Say hello.",
        "Name three rivers of Europe and, for each of them, the sea that it flows into.",
    ],
    "completion": ["calm", "Hello!", "Rhine: North Sea. Rhône: Mediterranean Sea. Danube: Black Sea."],
    "rationale": [None, None, None],
}


@pytest.mark.slow
@torch.no_grad()
def test_losses_do_not_depend_on_padding_or_company(model: LanguageModel) -> None:
    examples = model.encode(ROWS, "words")
    together = model.answers(model.batch(examples)).losses()
    for row, example in enumerate(examples):
        alone = model.answers(model.batch([example])).losses()
        torch.testing.assert_close(alone, together[row : row + 1], rtol=1e-4, atol=1e-5)
        ids = torch.tensor([example["input_ids"] + example["label"] + [model.padding] * 9])
        label = torch.tensor([[NO_ANSWER] * len(example["input_ids"]) + example["label"] + [NO_ANSWER] * 9])
        mask = (torch.arange(ids.shape[1]) < ids.shape[1] - 9).long()[None]
        right = model.lm(input_ids=ids, attention_mask=mask, labels=label).loss
        torch.testing.assert_close(right, together[row], rtol=1e-4, atol=1e-5)
    pair = model.answers(model.batch([examples[2], examples[0]])).losses()
    torch.testing.assert_close(pair, together[[2, 0]], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_sketched_gradients_of_two_rows_equal_autograd(model: LanguageModel) -> None:
    examples = model.encode(ROWS, "words")[:2]
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    rows = [
        torch.autograd.grad(
            model.answers(model.batch([example])).losses().sum(), [model.get_parameter(n) for n in names]
        )
        for example in examples
    ]
    sketcher = GradientSketcher(model, names, dimension=16, width=512, seed=3)
    expected = sketcher.projection.empty_sketch(2)
    for name, gradients in zip(names, zip(*rows, strict=True), strict=True):
        sketcher.projection.add_whole(expected, name, torch.stack(gradients))
    sketcher.rows = 2
    sketched = sketcher.sketches(model.answers(model.batch(examples)).losses().sum(), keep_graph=False)
    assert torch.linalg.norm(sketched - expected) < 1e-4 * torch.linalg.norm(expected)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """The model with adapters that are away from zero."""
    folder: Path = tmp_path_factory.mktemp("data")
    task = PreparedTask(name="words", kind="generation", labels=[], rows={})
    write_index(folder, "suite", "words", [task])
    config = ModelConfig(base_model=PACKAGED_SMOLLM2, max_length=128, lora_rank=4)
    torch.manual_seed(0)
    made = LanguageModel.from_base(find_base_model(PACKAGED_SMOLLM2), config, PreparedData(folder))
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    return made
