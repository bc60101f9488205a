"""The encoder with its head: which classes there are, scores, what is trained, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedModel,
    T5Config,
    T5Model,
)

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import PACKAGED_MINILM, find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head, load_encoder
from gradsift.components.shared.parameters.model import HeadKind

LABELS = {
    "films": ["negative", "positive"],
    "books": ["positive", "negative"],
    "questions": ["number", "positive", "place"],
    "flipped": ["negative", "positive"],
}
TEXTS = [f"a film {'that is long ' * (number % 7)}number {number}" for number in range(23)]
ROWS = {"text": TEXTS, "text_pair": [None] * len(TEXTS)}


def head(kind: HeadKind, max_length: int = 16) -> Head:
    return Head.for_tasks(kind, 15.0, max_length, "films", LABELS)


@pytest.fixture(params=get_args(HeadKind))
def model(request: pytest.FixtureRequest, tiny_encoder: Path) -> EncoderClassifier:
    made = EncoderClassifier.from_base(find_base_model(str(tiny_encoder)), head(request.param))
    if request.param == "linear":
        torch.manual_seed(1)
        torch.nn.init.normal_(made.classifier.weight)
        torch.nn.init.normal_(made.classifier.bias)
    return made


def test_equal_label_names_share_a_class_in_every_task() -> None:
    made = head("label_embedding")
    assert made.classes == ["negative", "positive", "number", "place"]
    assert made.tasks == {"films": [0, 1], "books": [1, 0], "questions": [2, 1, 3], "flipped": [0, 1]}
    assert made.task_names == list(LABELS)


def test_a_linear_head_has_one_set_of_rows_a_set_of_label_names_and_never_one_a_task() -> None:
    made = head("linear")
    assert made.tasks["films"] == made.tasks["flipped"] == made.tasks["books"][::-1] == [0, 1]
    assert made.tasks["questions"] == [2, 3, 4]
    assert made.classes == ["negative", "positive", "number", "positive", "place"]


def test_label_embeddings_are_the_base_encoders_own_and_of_length_1() -> None:
    base = find_base_model(PACKAGED_MINILM)
    labels = {"topics": ["sports_news", "cooking"]}
    made = EncoderClassifier.from_base(base, Head.for_tasks("label_embedding", 15.0, 16, "topics", labels))
    assert torch.allclose(made.classifier.weight.norm(dim=1), torch.ones(2))
    assert made.classifier.bias is None
    [(label, probability)] = made.predict(["Sports news"], "topics")
    assert label == "sports_news"
    cosines = made.classifier.weight @ made.classifier.weight[0]
    assert probability == pytest.approx(float(functional.softmax(15 * cosines, dim=0)[0]), abs=1e-5)


def test_scores_are_minus_infinity_outside_the_rows_task(model: EncoderClassifier) -> None:
    tasks = torch.tensor([0, 2])
    scores = model.scores(tasks, **model.tokenize(TEXTS[:2]))
    for row, task in enumerate(["films", "questions"]):
        finite = torch.isfinite(scores[row]).nonzero().flatten().tolist()
        assert finite == sorted(model.head.tasks[task])


def test_the_loss_is_the_mean_cross_entropy_in_nats(model: EncoderClassifier) -> None:
    inputs = model.tokenize(TEXTS[:3])
    label = torch.tensor(model.head.tasks["questions"])
    found = model(task=torch.full((3,), 2), label=label, **inputs)
    expected = -model.log_probabilities({key: ROWS[key][:3] for key in ROWS}, "questions").diagonal().mean()
    assert found["loss"].item() == pytest.approx(expected.item(), abs=1e-5)


def test_log_probabilities_do_not_depend_on_the_batch_size(model: EncoderClassifier) -> None:
    done: list[int] = []
    whole = model.log_probabilities(ROWS, "questions", batch_size=64)
    single = model.log_probabilities(ROWS, "questions", batch_size=1)
    odd = model.log_probabilities(ROWS, "questions", batch_size=5, report=done.append)
    assert whole.shape == (len(TEXTS), 3)
    assert torch.allclose(whole.exp().sum(1), torch.ones(len(TEXTS)))
    torch.testing.assert_close(single, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(odd, whole, atol=1e-5, rtol=0)
    assert done == [5, 10, 15, 20, 23]
    assert (whole[0] - whole[6]).abs().max() > 1e-3


def test_columns_follow_each_tasks_own_label_order(model: EncoderClassifier) -> None:
    films, books = (model.log_probabilities(ROWS, task) for task in ("films", "books"))
    torch.testing.assert_close(films, books.flip(1))


def test_a_row_is_encoded_alike_whatever_rows_are_beside_it(model: EncoderClassifier) -> None:
    pairs = ["second", None, "third", None, ""]
    together = model.encode_texts(TEXTS[:5], pairs)
    alone = [model.encode_texts([text], [pair])[0] for text, pair in zip(TEXTS, pairs, strict=False)]
    assert together == alone
    assert together[1] == model.encode_texts([TEXTS[1]])[0]
    assert together[0]["token_type_ids"][-1] == 1
    assert all(len(row["input_ids"]) <= 16 for row in together)


def test_predict_gives_the_most_probable_label(model: EncoderClassifier) -> None:
    values = model.log_probabilities(ROWS, "questions").exp()
    expected = [(LABELS["questions"][row.argmax()], float(row.max())) for row in values]
    assert model.predict(TEXTS, "questions") == expected


def test_a_saved_model_gives_equal_scores(model: EncoderClassifier, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = EncoderClassifier.load(tmp_path)
    assert loaded.head == model.head
    assert torch.equal(
        loaded.log_probabilities(ROWS, "questions"), model.log_probabilities(ROWS, "questions")
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert {"model.safetensors", "head.safetensors", "head.json", "config.json", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]


def test_a_given_state_is_saved_in_place_of_the_models_own(model: EncoderClassifier, tmp_path: Path) -> None:
    state = {name: torch.full_like(value, 0.5).bfloat16() for name, value in model.state_dict().items()}
    model.save(tmp_path, state)
    loaded = EncoderClassifier.load(tmp_path).state_dict()
    assert loaded.keys() == state.keys()
    assert all(value.dtype == torch.float32 and bool((value == 0.5).all()) for value in loaded.values())


def test_freezing_leaves_exactly_the_encoders_layers_and_a_linear_head(model: EncoderClassifier) -> None:
    model.freeze_embeddings()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    layers = {
        f"encoder.encoder.layer.{layer}.{name}"
        for layer, module in enumerate(model.encoder.encoder.layer)
        for name, _ in module.named_parameters()
    }
    linear = {"classifier.weight", "classifier.bias"} if model.head.kind == "linear" else set()
    assert trained == layers | linear
    assert len(layers) == 32


def saved(make: Callable[[], PreTrainedModel], tiny_encoder: Path, folder: Path) -> str:
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(folder)
    make().save_pretrained(folder)
    return str(folder)


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: GPT2Model(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)), "gpt2"),
        (lambda: BertModel(BertConfig(**SMALL, vocab_size=50, is_decoder=True)), "bert"),
        (lambda: T5Model(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)), "t5"),
    ],
    ids=["decoder", "encoder used as decoder", "encoder-decoder"],
)
def test_a_model_that_is_not_an_encoder_is_refused(
    make: Callable[[], PreTrainedModel], kind: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    name = saved(make, tiny_encoder, tmp_path)
    with pytest.raises(InputError) as error:
        load_encoder(tmp_path, name)
    assert str(error.value) == f"The base model {name!r} is of type {kind!r}: expected an encoder."


def test_a_damaged_weights_file_is_one_sentence(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="cannot be loaded as an encoder: "):
        load_encoder(folder, "damaged")


def test_weights_that_are_missing_are_not_made_up(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(InputError, match=r"'short' has no weights for encoder.layer.2.* \(16 missing\)."):
        load_encoder(folder, "short")
