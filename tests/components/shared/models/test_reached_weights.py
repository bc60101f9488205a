"""What no text reaches is not trained."""

from pathlib import Path

import torch
from tiny_language_models import make_vision_base
from torch import nn

from gradsift.components.shared.data.prepared_data import PreparedData, PreparedTask, write_index
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.reached_weights import unreached_weights
from gradsift.components.shared.parameters.model import ModelConfig


def trained(model: nn.Module) -> set[str]:
    return {name for name, each in model.named_parameters() if each.requires_grad}


def test_a_vision_tower_is_frozen_with_what_leads_to_it(tmp_path: Path) -> None:
    write_index(tmp_path, "suite", "sums", [PreparedTask(name="sums", kind="generation", labels=[], rows={})])
    base = find_base_model(str(make_vision_base(tmp_path / "base")))
    for rank in (0, 2):
        config = ModelConfig(base_model=base.name, max_length=64, lora_rank=rank)
        model = LanguageModel.from_base(base, config, PreparedData(tmp_path)).train()
        before = trained(model)
        model.freeze_untrained(train_embeddings=True)
        seen = {name for name in before if "vision" in name or "multi_modal_projector" in name}
        assert seen
        assert before - trained(model) == seen
        assert model.training
    assert model.hidden_size == 32


def test_texts_reach_all_of_an_encoder(tiny_encoder: Path) -> None:
    head = Head.for_tasks("linear", 15.0, 32, "mood", {"mood": ["good", "bad"]})
    model = EncoderClassifier.from_base(find_base_model(str(tiny_encoder)), head)
    before = trained(model)
    model.freeze_untrained(train_embeddings=True)
    assert trained(model) == before
    model.freeze_untrained(train_embeddings=False)
    assert before - trained(model) == {name for name in before if ".embeddings." in name}


def test_an_expert_that_another_text_may_reach_stays_trained() -> None:
    experts = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    model = nn.ModuleDict({"experts": experts, "eyes": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})
    loss = experts[0](torch.ones(2)).sum()
    assert {id(each) for each in unreached_weights(model, loss)} == {
        id(each) for each in model["eyes"].parameters()
    }
