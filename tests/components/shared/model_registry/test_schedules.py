"""A schedule as a tag of the champion, on a real MLflow server: what a run begins with, and what is no schedule."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.errors import InputError, TrackingOutageError
from gradsift.components.shared.model_registry import schedules
from gradsift.components.shared.model_registry.schedules import find_earlier_schedule, schedule_tags
from gradsift.components.shared.records.sampling_schedule import EarlierSchedule, SamplingSchedule

SHARES = {"sst2": 0.5, "mr": 0.25, "trec": 0.25}
COSINES = {"mr": 0.51234, "trec": -0.2}


@pytest.fixture
def name(mlflow_experiment: str) -> str:
    return f"model-{uuid.uuid4().hex}"


def trained(root: Path, **changes: Any) -> StepOutput:
    """What a meta-training leaves of its schedule."""
    given = {
        "sampler": "l2s",
        "target": "sst2",
        "rounds": [{"shares": SHARES, "cosines": COSINES}],
        **changes,
    }
    schedule = SamplingSchedule.model_validate(given)

    def work(folder: Path) -> dict[str, Any]:
        schedule.write(folder)
        return {"sampler": schedule.sampler}

    return produce(str(root), "meta_training", {"schedule": schedule.model_dump()}, work)


def register(name: str, tags: dict[str, str]) -> None:
    """Make a champion with these tags."""
    client = MlflowClient()
    client.create_registered_model(name)
    version = client.create_model_version(name, source="s3://bucket/model", tags=tags)
    client.set_registered_model_alias(name, "champion", str(version.version))


def begun(name: str, data: StepOutput, root: Path) -> EarlierSchedule | None:
    found = find_earlier_schedule(name, data, str(root))
    return None if found is None else EarlierSchedule.read(fetch(found))


def test_it_begins_with_what_the_champion_learned_of_the_sources_that_there_are(
    name: str, prepared_data: StepOutput, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = {"mr": 0.3, "gone": 0.9}
    rounds = [{"shares": SHARES, "cosines": first}, {"shares": SHARES, "cosines": {**first, "mr": 0.10001}}]
    register(name, schedule_tags(trained(tmp_path, rounds=rounds)))
    found = begun(name, prepared_data, tmp_path)
    assert found == EarlierSchedule(origin=f"version 1 of {name}", cosines={"mr": 0.2})
    assert (
        f"Meta-training begins with the schedule of version 1 of {name}: it has 1 of the 3 sources."
        in caplog.text
    )


def test_on_the_champions_own_data_it_begins_as_the_champion_did(
    name: str, prepared_data: StepOutput, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = EarlierSchedule(origin="version 7 of others", cosines={"mr": 0.1234, "trec": 1 / 8})
    tags = schedule_tags(trained(tmp_path, earlier=before.model_dump()))
    assert json.loads(tags["gradsift.schedule"])["cosines"]["mr"] == pytest.approx(
        (0.1234 + 0.51234) / 2, abs=1e-4
    )
    register(name, {**tags, "gradsift.data_digest": prepared_data.digest})
    assert begun(name, prepared_data, tmp_path) == before
    assert f"so did that of version 1 of {name}, the champion, on the same data" in caplog.text
    fresh = f"{name}-fresh"
    register(fresh, {**schedule_tags(trained(tmp_path)), "gradsift.data_digest": prepared_data.digest})
    assert begun(fresh, prepared_data, tmp_path) is None
    assert f"without an earlier schedule: so did that of version 1 of {fresh}" in caplog.text


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        (None, "{name} has no champion yet"),
        ({"sampler": "size", "rounds": []}, "version 1 of {name}, the champion, has none"),
        ({"target": "news"}, "that of version 1 of {name}, the champion, is for the target news"),
        (
            {"rounds": [{"shares": {"gone": 1.0}, "cosines": {"gone": 1.0}}]},
            "that of version 1 of {name}, the champion, has none of these sources",
        ),
    ],
    ids=["no champion", "no schedule", "another target", "other sources"],
)
def test_without_a_schedule_that_fits_it_begins_anew_and_says_why(
    schedule: dict[str, Any] | None,
    reason: str,
    name: str,
    prepared_data: StepOutput,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if schedule is not None:
        register(name, schedule_tags(trained(tmp_path, **schedule)))
    assert begun(name, prepared_data, tmp_path) is None
    assert (
        caplog.messages[-1]
        == f"Meta-training begins without an earlier schedule: {reason.format(name=name)}."
    )


@pytest.mark.parametrize(
    ("tag", "wrong"),
    [
        ('{"target": "sst2", "cosines": {"mr": 5}}', "is not valid at cosines.mr: Input should be less than"),
        ("[0.5]", "is not valid at the file: Input should be an object"),
        ("mr: 0.5", "is not valid at the file: Invalid JSON"),
    ],
)
def test_a_tag_that_is_no_schedule_is_an_error_that_names_it(
    tag: str, wrong: str, name: str, prepared_data: StepOutput, tmp_path: Path
) -> None:
    register(name, {"gradsift.schedule": tag})
    with pytest.raises(InputError) as error:
        find_earlier_schedule(name, prepared_data, str(tmp_path))
    sentence = str(error.value)
    assert sentence.startswith(
        f"The tag gradsift.schedule of version 1 of the registered model '{name}', its champion, {wrong}"
    )
    assert sentence.endswith(
        "; delete the tag to begin without a schedule, or give the alias champion to another version."
    )


def test_a_server_that_is_away_is_an_error_without_credentials(
    prepared_data: StepOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingOutageError, match="could not serve the registered model 'reviews'") as error:
        find_earlier_schedule("reviews", prepared_data, str(tmp_path))
    assert "s3cret" not in str(error.value)


def test_a_tag_has_the_newest_periods_where_it_has_no_room_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "MAX_CHARACTERS", 70)
    periods = {f"news.{year}": str(year) for year in range(2001, 2006)}
    cosines = {**dict.fromkeys(periods, 0.5), "plain": 0.5}
    rounds = [{"shares": {"news": 1.0}, "cosines": cosines}]
    tags = schedule_tags(trained(tmp_path, target="news", rounds=rounds, periods=periods))
    assert tags == {
        "gradsift.schedule": '{"target":"news","cosines":{"news.2005":0.5,"news.2004":0.5}}',
    }


def test_another_sampler_leaves_no_tag(tmp_path: Path) -> None:
    assert schedule_tags(trained(tmp_path, sampler="recency")) == {}
    assert schedule_tags(StepOutput("uri", "digest", {})) == {}
