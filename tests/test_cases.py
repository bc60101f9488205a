"""Small inputs that once went wrong, in `cases`: each is usable, or refused in one sentence."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.data.suites.task_suite import find_tasks
from gradsift.components.shared.errors import GradsiftError
from gradsift.components.shared.models.encoder_classifier import load_encoder
from gradsift.components.shared.models.model_kind import kind_of
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.pipelines.kubeflow.schedules import read_schedules

CASES = Path(__file__).parent / "cases"
USABLE = {
    "one_row_test",
    "sched_e_p_nesteddate",
    "sched_e_p_strnum",
    "automap_tokenizer",
    "cfg_arch_bad",
    "st_nometa",
    "st_tfmeta",
    "tok_chat_bad",
    "tok_chat_num",
    "tok_class_bad",
    "tokcfg_emptyobj",
}
"""Cases that mean one thing only, such as a faulty chat template, which an encoder does not use."""


def cases(kind: str) -> list[Path]:
    return sorted((CASES / kind).glob("*"))


@pytest.fixture(scope="session")
def base(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the model that the cases' files are of."""
    folder = Path(shutil.copytree(tiny_encoder, tmp_path_factory.mktemp("case") / "base"))
    config = json.loads((CASES / "models" / "st_nometa" / "config.json").read_text())
    BertModel(BertConfig(**config)).save_pretrained(folder)
    return folder


def check(case: str, error: GradsiftError | None) -> None:
    assert (error is None) == (case in USABLE), error
    if error is not None:
        assert str(error).endswith((".", "?"))
        assert "\n" not in str(error)


@pytest.mark.parametrize("folder", cases("suites"), ids=lambda folder: folder.name)
def test_a_suite(folder: Path, tmp_path: Path) -> None:
    error = None
    try:
        prepare_data(DataPreparationConfig(suite=str(folder), target="t"), str(tmp_path), ModelConfig())
    except GradsiftError as found:
        error = found
    check(folder.name, error)
    assert (tmp_path / "data_preparation").exists() == (error is None)


@pytest.mark.parametrize("file", cases("yaml"), ids=lambda file: file.stem)
def test_a_yaml_file(file: Path) -> None:
    error = None
    try:
        if file.stem.startswith("sched_"):
            read_schedules(file)
        else:
            find_tasks(DataPreparationConfig(suite=str(file), target="t"))
    except GradsiftError as found:
        error = found
    check(file.stem, error)
    if error is not None:
        assert str(file) in str(error)


@pytest.mark.parametrize("folder", cases("models"), ids=lambda folder: folder.name)
def test_a_model(folder: Path, base: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(base, tmp_path / "model"))
    for file in folder.iterdir():
        shutil.copy(file, model / file.name)
    if folder.name == "tok_noJSON":
        (model / "tokenizer.json").unlink()
    if folder.name == "st_nan":
        encoder = BertModel.from_pretrained(model)
        encoder.embeddings.word_embeddings.weight.data[5, 5] = float("nan")
        encoder.save_pretrained(model)
    error = None
    try:
        assert kind_of(model, "m") == "encoder"
        load_encoder(model, "m")
    except GradsiftError as found:
        error = found
    check(folder.name, error)
