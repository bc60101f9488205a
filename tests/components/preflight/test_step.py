"""The preflight step: what it finds wrong, all of it at once, and what is only a warning."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from gradsift.components.preflight.step import examine, preflight
from gradsift.components.shared.data.suites.task_suite import DEMO_FOLDERS
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.pipeline_settings import defaults, form_of
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.run_record import step_events

AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONFIG_FILE")


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*AWS, "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("KFP_RUN_ID", "some-run")


def problem(tmp_path: Path, **changes: Any) -> str:
    """Return what preflight says is wrong."""
    parameters = {**defaults(), "output_uri": str(tmp_path / "root"), **changes}
    with pytest.raises(InputError) as error:
        preflight(form_of(parameters), tmp_path / "report.md")
    assert "wrong" in (tmp_path / "report.md").read_text()
    return str(error.value)


def test_all_in_order_is_a_list_and_leaves_nothing_but_its_record(tmp_path: Path) -> None:
    root = tmp_path / "root"
    preflight(form_of({"output_uri": str(root)}), tmp_path / "report.md")
    report = (tmp_path / "report.md").read_text()
    assert report.count("- **ok** ") == 6
    assert "demo has the target sst2 and 11 auxiliary tasks" in report
    assert {path.name for path in root.rglob("*") if path.is_file()} == {"preflight.jsonl"}
    assert step_events(str(root), "some-run")["preflight"][-1]["status"] == "finished"


def test_the_report_ends_with_the_expected_cost(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    preflight(form_of({"output_uri": root}), tmp_path / "report.md")
    report = (tmp_path / "report.md").read_text()
    assert "\n## Expected cost\n\n| phase | runs | steps | rows |" in report
    assert "| meta-training | 1 | 185 | 5,920 |" in report
    settings = {"output_uri": root, "sources": ["mr", "mr_flipped"], "prepare_max_rows_per_task": 32}
    preflight(form_of(settings), tmp_path / "report.md")
    assert "| meta-training | 1 | 6 | 192 |" in (tmp_path / "report.md").read_text()


def test_the_cost_is_not_known_where_the_suite_does_not_count_its_rows(tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    shutil.copytree(DEMO_FOLDERS["demo"], suite)
    manifest = json.loads((suite / "manifest.json").read_text())
    for task in manifest["tasks"]:
        for file in task.get("splits", {}).values():
            file.pop("rows", None)
    (suite / "manifest.json").write_text(json.dumps(manifest))
    preflight(form_of({"output_uri": str(tmp_path / "root"), "suite": str(suite)}), tmp_path / "report.md")
    assert "The suite does not say how many rows its tasks have" in (tmp_path / "report.md").read_text()


def test_a_sampler_that_is_to_choose_more_sources_than_there_are(tmp_path: Path) -> None:
    sampler = {"meta_sampler": "derts", "sources": ["mr", "subj"]}
    assert "Parameter meta_max_tasks is 3: expected at most the 2 sources." in problem(
        tmp_path, **sampler, meta_max_tasks=3
    )


def test_periods_of_a_target_without_times(tmp_path: Path) -> None:
    assert (
        "Parameter prepare_periods is 'year': expected 'none', as no val row of the target 'sst2' has a 'time' or "
        "'date'."
    ) in problem(tmp_path, prepare_periods="year")


def test_tasks_and_numbers_that_the_suite_does_not_have(tmp_path: Path) -> None:
    assert "Parameter estimate_required_tasks holds 'mrr': expected one of the auxiliary tasks " in problem(
        tmp_path, estimate_required_tasks=["mrr"]
    )
    assert (
        "Parameter estimate_excluded_tasks holds 'trec': expected one of the auxiliary tasks mr, subj."
        in problem(tmp_path, sources=["mr", "subj"], estimate_excluded_tasks=["trec"])
    )
    assert (
        "Parameter calibrate_runs is 7: expected at most 6, all subsets that 3 auxiliary tasks have"
        in problem(tmp_path, sources=["mr", "subj", "trec"], calibrate_runs=7)
    )


def test_tasks_that_data_will_be_cut_into_are_not_known_yet(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        """
        suite: mixed
        tasks:
          - {name: t, dataset: ./t, prompt: p, completion: c, splits: {}}
          - {name: mix, dataset: ./mix, prompt: p, completion: c, splits: {}, group_by: origin}
        """
    )
    named = {"suite": str(tmp_path / "suite.yaml"), "target": "t"}
    limits = {"estimate_required_tasks": ["mix#code"], "calibrate_runs": 7}
    findings = {each.check: each for each in examine({**defaults(), **named, **limits})}
    assert findings["suite"].words == ("mixed has the target t and the tasks cut from mix to choose from")
    assert "estimate_required_tasks holds 'mux#code': expected one of the auxiliary tasks mix." in problem(
        tmp_path, **named, estimate_required_tasks=["mux#code"]
    )


def test_clusters_that_sources_will_be_cut_into_are_not_known_yet(tmp_path: Path) -> None:
    small = {"sources": ["mr", "subj"], "extract_cluster_sources": 3, "calibrate_runs": 7}
    names = {"estimate_required_tasks": ["mr#02"], "estimate_excluded_tasks": ["subj"]}
    findings = examine({**defaults(), "output_uri": str(tmp_path), **small, **names})
    assert [each.words for each in findings if not each.fine] == []
    for wrong in ("mr#03", "mr#2", "trec#00"):
        changes = {**small, "estimate_required_tasks": [wrong]}
        assert f"estimate_required_tasks holds {wrong!r}" in problem(tmp_path, **changes)
    whole = {**small, "extract_cluster_sources": 0, "calibrate_runs": 0, "estimate_required_tasks": ["mr#00"]}
    assert "estimate_required_tasks holds 'mr#00'" in problem(tmp_path, **whole)
    assert "extract_cluster_sources is 51: expected 50 or less" in problem(
        tmp_path, extract_cluster_sources=51
    )


def test_layers_that_the_base_model_does_not_have(tmp_path: Path, tiny_encoder: Path) -> None:
    expected = (
        "Parameter fine_tune_scopes holds 'late': expected 'all', as the base model has 2 layers of its own"
    )
    assert expected in problem(tmp_path, base_model=str(tiny_encoder), fine_tune_scopes=["all", "late"])


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    said = problem(
        tmp_path,
        evaluate_seeds=0,
        extract_probes=0,
        extract_dtype="int8",
        train_batch_size=0,
        platform_secret="No name",
        target="sst3",
        base_model="/no/such/folder",
    )
    assert said.startswith("7 things are wrong. (1) ")
    for words in (
        "extract_probes is 0",
        "extract_dtype is 'int8'",
        "evaluate_seeds is 0",
        "train_batch_size is 0",
        "platform_secret is 'No name'",
        "no task 'sst3'",
        "'/no/such/folder' was not found",
    ):
        assert said.count(words) == 1, words
    assert step_events(str(tmp_path / "root"), "some-run")["preflight"][-1]["error"] == said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": ["mr", "other"]}, "no task 'other', which was given as auxiliary task"),
        ({"suite": "/no/suite"}, "There is no task suite at /no/suite"),
        ({"base_model": "no/such-model"}, "'no/such-model' was not found"),
        ({"memory": "16 GB"}, "memory is '16 GB': expected a quantity"),
        ({"gpus": -1}, "gpus is -1: expected 0 or more."),
        ({"gpu_type": "A100"}, "gpu_type is 'A100': expected a resource's name"),
        (
            {"platform_node_selector": {"gpu": True}},
            "platform_node_selector['gpu'] is True: expected a text.",
        ),
        ({"platform_tolerations": ["gpu"]}, "platform_tolerations[0] is 'gpu': expected a mapping"),
        ({"sources": ["sst2"]}, "sources holds the target 'sst2'"),
        (
            {"train_nodes": 2, "train_batch_size": 32},
            "train_nodes is 2: expected 1, as output_uri is a local",
        ),
        ({"extract_base_weights": True, "model_head": "linear"}, "expected 'label_embedding' where"),
        ({"evaluate_sign_kernel": True}, "evaluate_kernel_rows is 0: expected 1 or more where"),
    ],
)
def test_one_thing_wrong_is_one_sentence(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    said = problem(tmp_path, **changes)
    assert words in said
    assert "things are wrong" not in said


def test_every_finding_is_a_line_of_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem(tmp_path, evaluate_seeds=0, base_model="/no/such/model")
    lines = capsys.readouterr().out.splitlines()
    assert "wrong   parameters: Parameter evaluate_seeds is 0: expected 1 or more." in lines
    assert any(line.startswith("wrong   base model: The base model '/no/such/model'") for line in lines)
    assert next(line.split(":")[0] for line in lines if line.startswith("ok")) == "ok      run root"


def test_a_run_root_that_cannot_be_written_is_reported_without_a_record(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    said = problem(tmp_path, evaluate_seeds=0)
    assert str(tmp_path / "root") in said
    assert "evaluate_seeds is 0" in said


def test_s3_is_written_read_and_deleted_from(s3_root: str, tmp_path: Path) -> None:
    preflight({**defaults(), "output_uri": s3_root}, tmp_path / "report.md")
    assert open_storage(s3_root).keys() == ["tracking/some-run/preflight.jsonl"]
    assert r"AWS\_ACCESS\_KEY\_ID, AWS\_SECRET\_ACCESS\_KEY given" in (tmp_path / "report.md").read_text()


def test_missing_s3_credentials_name_the_secret(tmp_path: Path) -> None:
    said = problem(tmp_path, output_uri="s3://bucket/root", platform_secret="team-credentials")
    assert "come from the Secret 'team-credentials' (parameter platform_secret)" in said


def test_half_of_a_pair_of_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "planted-name")
    said = problem(tmp_path)
    assert "holds MLFLOW_TRACKING_USERNAME does not hold MLFLOW_TRACKING_PASSWORD" in said
    assert "planted-name" not in said + (tmp_path / "report.md").read_text()


def test_an_mlflow_server_that_is_down_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    preflight({**defaults(), "output_uri": str(tmp_path / "root")}, tmp_path / "report.md")
    assert "- **warning** MLflow: " in (tmp_path / "report.md").read_text()


def test_so_is_a_database_that_is_down_and_it_is_given_up_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://ada:s3cret@127.0.0.1:9/mlflow")
    began = time.monotonic()
    preflight({**defaults(), "output_uri": str(tmp_path / "root")}, tmp_path / "report.md")
    assert time.monotonic() - began < 20
    report = (tmp_path / "report.md").read_text()
    assert "- **warning** MLflow: " in report
    assert "refused" in report
    assert "s3cret" not in report


def test_but_where_a_model_is_to_be_registered_mlflow_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "MLFLOW_TRACKING_URI names does not answer" in problem(tmp_path, promote_model_name="reviews")
    assert "- **wrong** MLflow: " in (tmp_path / "report.md").read_text()


def test_an_mlflow_server_that_answers(mlflow_experiment: str, tmp_path: Path) -> None:
    findings = {each.check: each for each in examine({**defaults(), "output_uri": str(tmp_path)})}
    assert findings["MLflow"].fine
    assert findings["MLflow"].words == "the tracking server answers"
