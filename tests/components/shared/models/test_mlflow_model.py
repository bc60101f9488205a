import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from mlflow import MlflowClient, pyfunc
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModel
from tiny_language_models import make_base, write_prepared_data
from transformers import BertConfig, BertModel, BertTokenizer

from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.tracking.mlflow_sync import sync
from gradsift.components.shared.tracking.tracking import track_step

TEXTS = ["a great film", "a bad film", "film"]


def tiny_classifier(folder: Path) -> EncoderClassifier:
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "great", "bad", "film"]
    (folder / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    labels = {"reviews": ["negative", "positive"], "topics": ["sport", "film", "food"]}
    head = Head.for_tasks("linear", 1.0, 16, "reviews", labels)
    weight = torch.randn(len(head.classes), 8)
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    return EncoderClassifier(
        BertModel(config), tokenizer, head, weight, torch.zeros(len(head.classes))
    ).eval()


def logged_models(client: MlflowClient, experiment: str) -> list[LoggedModel]:
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_logged_models([found.experiment_id]))


@pytest.fixture
def tuned(tmp_path: Path) -> StepOutput:
    def save(folder: Path) -> dict[str, Any]:
        tiny_classifier(tmp_path).save(folder)
        return {}

    return produce(str(tmp_path / "run"), "fine_tuning", {}, save)


def test_the_logged_model_predicts_as_the_tuned_one(
    tmp_path: Path, tuned: StepOutput, mlflow_experiment: str
) -> None:
    root = str(tmp_path / "run")
    with track_step("fine_tune_target", root, {"rate": 1e-4}) as tracker:
        tracker.model(tuned)

    sync(root)
    for counts in tmp_path.glob("run/tracking/*/*.sent.json"):
        counts.unlink()
    sync(root)

    client = MlflowClient()
    (logged,) = logged_models(client, mlflow_experiment)
    expected = EncoderClassifier.load(Path(tuned.uri)).predict(TEXTS, "reviews")
    for uri in (f"models:/{logged.model_id}", f"runs:/{logged.source_run_id}/model"):
        model = pyfunc.load_model(uri)
        for given in (TEXTS, pandas.DataFrame({"text": TEXTS})):
            answers = model.predict(given)
            assert list(answers.columns) == ["label", "probability"]
            assert answers["label"].tolist() == [label for label, _ in expected]
            assert answers["probability"].tolist() == pytest.approx([value for _, value in expected])


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2}], ids=["full", "lora"])
def test_a_logged_language_model_writes_the_targets_answers(
    tmp_path: Path, mlflow_experiment: str, settings: dict[str, Any]
) -> None:
    base = make_base(tmp_path / "base", "llama")
    data = PreparedData(write_prepared_data(tmp_path / "data"))
    model = from_base(ModelConfig(base_model=str(base), max_length=32, **settings), data)
    assert isinstance(model, LanguageModel)

    def save(folder: Path) -> dict[str, Any]:
        model.save(folder)
        return {}

    root = str(tmp_path / "run")
    tuned = produce(root, "fine_tuning", {}, save)
    with track_step("fine_tune_target", root, {}) as tracker:
        tracker.model(tuned)
    sync(root)

    (logged,) = logged_models(MlflowClient(), mlflow_experiment)
    answers = pyfunc.load_model(f"models:/{logged.model_id}").predict(TEXTS)
    assert list(answers.columns) == ["answer"]
    assert answers["answer"].tolist() == model.write(TEXTS) == [model.write([text])[0] for text in TEXTS]


def test_the_logged_model_holds_no_pickle_and_says_what_it_needs(
    tmp_path: Path, tuned: StepOutput, mlflow_experiment: str
) -> None:
    root = str(tmp_path / "run")
    with track_step("fine_tune_target", root, {}) as tracker:
        tracker.model(tuned)

    sync(root)

    (model,) = logged_models(MlflowClient(), mlflow_experiment)
    folder = Path(download_artifacts(f"models:/{model.model_id}"))
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert names >= {"mlflow_model.py", "model.safetensors", "head.safetensors", "head.json"}
    assert not [name for name in names if Path(name).suffix in {".pkl", ".pickle", ".bin", ".pt"}]
    needed = (folder / "requirements.txt").read_text().splitlines()
    assert f"gradsift[train]=={version('gradsift')}" in needed
    assert {line.split("==")[0] for line in needed} >= {"mlflow", "torch", "transformers", "safetensors"}


def test_the_model_goes_to_the_run_that_kubeflow_made(
    tmp_path: Path, tuned: StepOutput, mlflow_experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient()
    experiment = client.create_experiment("kubeflow-" + mlflow_experiment)
    task = client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    with track_step("fine_tune_target", str(tmp_path / "run"), {}) as tracker:
        tracker.model(tuned)

    sync(str(tmp_path / "run"))

    (logged,) = client.search_logged_models([experiment])
    assert logged.source_run_id == task
    assert os.environ["MLFLOW_RUN_ID"] == task
