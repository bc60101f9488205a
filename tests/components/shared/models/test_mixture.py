"""Mixture files say what each trainer documents, and name rows that are there."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset
from tiny_language_models import CONVERSATIONS, MARKED_TEMPLATE, make_base, produce_prepared_data

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData, PreparedTask, write_index, write_split
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.labels import NO_ANSWER, last_answer
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.mixture import write_mixture
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.parameters.model import ModelConfig

LABELS = {"sst2": ["negative", "positive"], "mnli#fiction": ["yes", "no"], "trec": ["person", "place"]}
ROWS = {
    "sst2": [("good", None, 1), ("bad", None, 0)],
    "mnli#fiction": [("A man \u201csleeps\u201d.", "He is awake.", 1)],
    "trec": [("Who?", None, 0)],
}

# The fields that the trainers' own classes for one data set have.
TRL_DATASET_CONFIG = {"path", "name", "data_dir", "data_files", "split", "columns"}
AXOLOTL_SFT_DATASET = {"path", "split", "type", "data_files", "name", "ds_type"}
AXOLOTL_PROMPT_TYPE = {
    "system_prompt",
    "system_format",
    "field_system",
    "field_instruction",
    "field_input",
    "field_output",
    "format",
    "no_input_format",
}
AXOLOTL_CHAT_TEMPLATE = {"field_messages", "roles_to_train", "message_field_training"}
LLAMA_FACTORY_COLUMNS = {"prompt", "query", "response", "history", "system", "messages"}
LLAMA_FACTORY_TAGS = {"role_tag", "content_tag", "user_tag", "assistant_tag", "system_tag"}


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def data(tmp_path: Path) -> StepOutput:
    """Prepared data with three tasks."""

    def prepare(folder: Path) -> dict[str, Any]:
        for task, rows in ROWS.items():
            named = [
                {"id": str(index), "text": text, "text_pair": pair, "label": label}
                for index, (text, pair, label) in enumerate(rows)
            ]
            write_split(folder, task, "train", named)
        tasks = [
            PreparedTask(name=task, labels=LABELS[task], rows={"train": len(rows)}, licence="CC0")
            for task, rows in ROWS.items()
        ]
        write_index(folder, "suite", "sst2", tasks)
        return {}

    return produce(str(tmp_path), "data_preparation", {}, prepare)


@pytest.fixture
def mixture(data: StepOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mixture of the target and one task, as the working directory."""
    write_mixture(tmp_path / "output", data, ["mnli#fiction"])
    monkeypatch.chdir(tmp_path / "output" / "mixture")
    return Path()


def test_rows_are_prompts_and_completions(mixture: Path) -> None:
    assert sorted(path.name for path in (mixture / "data").iterdir()) == ["mnli#fiction.jsonl", "sst2.jsonl"]
    options = "Options: negative, positive\nAnswer:"
    assert rows_of(mixture / "data/sst2.jsonl") == [
        {"prompt": f"good\n{options}", "completion": " positive"},
        {"prompt": f"bad\n{options}", "completion": " negative"},
    ]
    assert rows_of(mixture / "data/mnli#fiction.jsonl") == [
        {
            "prompt": "A man \u201csleeps\u201d.\nHe is awake.\nOptions: yes, no\nAnswer:",
            "completion": " no",
        }
    ]


def test_the_texts_are_those_that_a_language_model_is_trained_on(tmp_path: Path) -> None:
    """Of written answers, some with a rationale, and of labels."""
    output = produce_prepared_data(tmp_path)
    write_mixture(tmp_path / "output", output, ["before", "size"])
    data = PreparedData(fetch(output))
    base = str(make_base(tmp_path / "base", "llama"))
    model = from_base(ModelConfig(base_model=base, max_length=128, prompt_form="plain"), data)
    assert isinstance(model, LanguageModel)
    for task in data.tasks:
        found = rows_of(tmp_path / "output/mixture/data" / f"{task.name}.jsonl")
        trained = model.encode(data.split(task.name, "train"), task.name)
        read, written = (
            [model.tokenizer.decode(example[part]) for example in trained] for part in ("input_ids", "label")
        )
        assert [row["prompt"] for row in found] == read
        assert [f"{row['completion']}</s>" for row in found] == written


def conversations(root: Path, all_turns: bool) -> StepOutput:
    """Prepared data of conversations, the target `chat`, beside labels."""

    def prepare(folder: Path) -> dict[str, Any]:
        columns = {
            **CONVERSATIONS,
            "all_turns": [all_turns and turns for turns in CONVERSATIONS["all_turns"]],
            "references": [[completion] for completion in CONVERSATIONS["completion"]],
        }
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        if all_turns:  # of what is learned in full, no row leaves an earlier answer out
            del rows[2]
        write_split(folder, "chat", "train", rows, "generation")
        labelled = {"id": "t", "text": "Who?", "text_pair": None, "label": 0}
        write_split(folder, "trec", "train", [labelled])
        chat = PreparedTask(name="chat", kind="generation", labels=[], rows={"train": len(rows)})
        tasks = [chat, PreparedTask(name="trec", labels=LABELS["trec"], rows={"train": 1})]
        write_index(folder, "suite", "chat", tasks)
        return {}

    return produce(str(root), "data_preparation", {}, prepare)


def test_where_there_are_conversations_every_row_is_one(tmp_path: Path) -> None:
    output = conversations(tmp_path, all_turns=True)
    write_mixture(tmp_path / "output", output, ["trec"])
    mixture = tmp_path / "output/mixture"
    earlier = CONVERSATIONS["earlier"][0]
    last = [{"role": "user", "content": "seven ?"}, {"role": "assistant", "content": "eight and nine"}]
    assert rows_of(mixture / "data/chat.jsonl")[0] == {"messages": [*earlier, *last]}
    assert rows_of(mixture / "data/trec.jsonl") == [
        {
            "messages": [
                {"role": "user", "content": "Who?\nOptions: person, place\nAnswer:"},
                {"role": "assistant", "content": "person"},
            ]
        }
    ]
    trl = yaml.safe_load((mixture / "trl_mixture.yaml").read_text())
    assert trl["assistant_only_loss"] is True
    assert [entry["columns"] for entry in trl["datasets"]] == [["messages"]] * 2
    for entry in yaml.safe_load((mixture / "axolotl.yaml").read_text())["datasets"]:
        assert set(entry) <= AXOLOTL_SFT_DATASET | AXOLOTL_CHAT_TEMPLATE
        assert (entry["type"], entry["field_messages"]) == ("chat_template", "messages")
        assert "message_field_training" not in entry
    for entry in json.loads((mixture / "dataset_info.json").read_text()).values():
        assert (entry["formatting"], entry["columns"]) == ("sharegpt", {"messages": "messages"})
        assert set(entry["tags"]) <= LLAMA_FACTORY_TAGS


def test_where_the_last_answers_are_learned_trainers_are_told(tmp_path: Path) -> None:
    write_mixture(tmp_path / "output", conversations(tmp_path, all_turns=False), ["trec"])
    mixture = tmp_path / "output/mixture"
    for task in ("chat", "trec"):
        for row in rows_of(mixture / f"data/{task}.jsonl"):
            messages = row["messages"]
            trained = [message.pop("train") for message in messages]
            assert trained == [False] * (len(messages) - 1) + [True]
            assert [*row["prompt"], *row["completion"]] == messages
    trl = yaml.safe_load((mixture / "trl_mixture.yaml").read_text())
    assert "assistant_only_loss" not in trl
    assert [entry["columns"] for entry in trl["datasets"]] == [["prompt", "completion"]] * 2
    for entry in yaml.safe_load((mixture / "axolotl.yaml").read_text())["datasets"]:
        assert set(entry) <= AXOLOTL_SFT_DATASET | AXOLOTL_CHAT_TEMPLATE
        assert entry["message_field_training"] == "train"


@pytest.mark.slow
@pytest.mark.parametrize("all_turns", [True, False])
def test_trl_trains_on_the_same_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_turns: bool
) -> None:
    """By the mixture file alone: beyond our last token there is only the template's line feed."""
    from trl import DatasetMixtureConfig, SFTConfig, SFTTrainer, get_dataset

    output = conversations(tmp_path, all_turns)
    write_mixture(tmp_path / "output", output, ["trec"])
    monkeypatch.chdir(tmp_path / "output/mixture")
    base = make_base(tmp_path / "base", "llama", chat=True)
    if all_turns:  # TRL reads the answers off the markers
        (base / "chat_template.jinja").write_text(MARKED_TEMPLATE)
    data = PreparedData(fetch(output))
    model = from_base(ModelConfig(base_model=str(base), max_length=128), data)
    assert isinstance(model, LanguageModel)
    ours = [row for task in data.tasks for row in model.encode(data.split(task.name, "train"), task.name)]

    mixture = yaml.safe_load(Path("trl_mixture.yaml").read_text())
    rows = get_dataset(DatasetMixtureConfig(datasets=mixture.pop("datasets")))["train"]
    settings = SFTConfig(
        output_dir=str(tmp_path / "trl"), max_steps=2, use_cpu=True, report_to="none", bf16=False, **mixture
    )
    trainer = SFTTrainer(model.lm, settings, train_dataset=rows, processing_class=model.tokenizer)
    theirs = trainer.train_dataset
    trainer.train()
    assert trainer.state.global_step == 2
    assert len(ours) == len(theirs) == len(data.split("chat", "train")) + 1
    for own, other in zip(ours, theirs, strict=True):
        ids = own["input_ids"] + last_answer(own["label"])
        labels = [NO_ANSWER] * (len(ids) - len(own["label"])) + own["label"]
        assert other["input_ids"][: len(ids)] == ids
        assert other["labels"][: len(ids)] == labels
        assert model.tokenizer.decode(other["input_ids"][len(ids) :]) == "\n"


def test_the_plain_file_has_rows_and_shares(mixture: Path) -> None:
    found = json.loads((mixture / "mixture.json").read_text())
    assert (found["suite"], found["target"], found["rows"]) == ("suite", "sst2", 3)
    assert [task["name"] for task in found["tasks"]] == ["sst2", "mnli#fiction"]
    assert [task["share"] for task in found["tasks"]] == pytest.approx([2 / 3, 1 / 3])
    assert all(Path(task["file"]).exists() and task["licence"] == "CC0" for task in found["tasks"])


def test_trl_loads_what_its_mixture_names(mixture: Path, tmp_path: Path) -> None:
    found = yaml.safe_load((mixture / "trl_mixture.yaml").read_text())
    assert set(found) == {"datasets"}
    for entry, task in zip(found["datasets"], ["sst2", "mnli#fiction"], strict=True):
        assert set(entry) <= TRL_DATASET_CONFIG
        columns = entry.pop("columns")
        rows = load_dataset(**entry, cache_dir=str(tmp_path / "cache")).select_columns(columns)
        assert columns == ["prompt", "completion"]
        assert len(rows) == len(ROWS[task])


def test_axolotl_finds_files_and_fields(mixture: Path) -> None:
    found = yaml.safe_load((mixture / "axolotl.yaml").read_text())
    assert set(found) == {"datasets"}
    for entry in found["datasets"]:
        assert set(entry) <= AXOLOTL_SFT_DATASET
        assert set(entry["type"]) <= AXOLOTL_PROMPT_TYPE
        assert entry["ds_type"] == "json"
        row = json.loads(Path(entry["path"]).read_text().splitlines()[0])
        prompt = entry["type"]["no_input_format"].format(instruction=row[entry["type"]["field_instruction"]])
        assert prompt == row["prompt"]
        assert entry["type"]["field_output"] == "completion"


def test_llama_factory_finds_files_and_columns(mixture: Path) -> None:
    found = json.loads((mixture / "dataset_info.json").read_text())
    assert list(found) == ["sst2", "mnli#fiction"]
    for entry in found.values():
        assert entry["formatting"] == "alpaca"
        assert set(entry["columns"]) <= LLAMA_FACTORY_COLUMNS
        row = json.loads(Path(entry["file_name"]).read_text().splitlines()[0])
        assert {entry["columns"]["prompt"], entry["columns"]["response"]} == set(row)


def test_the_same_choice_gives_the_same_bytes(data: StepOutput, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        write_mixture(tmp_path / name, data, ["trec", "mnli#fiction"])
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append([(path.relative_to(tmp_path / name), path.read_bytes()) for path in files])
    assert contents[0] == contents[1]
    assert len(contents[0]) == 7


def test_a_task_that_is_not_there_is_named(data: StepOutput, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no task 'snli' in the prepared data of suite 'suite'"):
        write_mixture(tmp_path / "output", data, ["snli"])
