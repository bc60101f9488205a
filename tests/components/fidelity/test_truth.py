"""Truth files, whether they fit a study, and the ranks of the default estimate by those of three targets."""

import json
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from gradsift.components.fidelity.truth import check_fits, read_truth, subsets_of, write_truth
from gradsift.components.shared.errors import InputError, StorageError
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.metrics.lds import spearman
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.subset_estimation.estimators.loss_estimator import open_estimator

TRUTHS = Path(__file__).parents[3] / "components" / "fidelity" / "truths"
STORES = Path(__file__).parent / "small_stores"
SETTINGS = PipelineSettings.of({})
RECIPE = TrainingRecipe.of(SETTINGS.training, SETTINGS.fine_tuning)


@pytest.fixture
def content() -> Any:
    return json.loads((TRUTHS / "sst2.base.json").read_text())


def data(**changes: Any) -> Any:
    """Return what `check_fits` asks of the prepared data of the sst2 study."""
    sources = max(subsets_of(read_truth(TRUTHS / "sst2.base.json")), key=len)
    rows = {"sst2": 100} | dict.fromkeys(sources, 150)
    own = {"suite": "study-sst2", "target": "sst2", "auxiliary_tasks": sources, "max_length": 32}
    return SimpleNamespace(
        **(own | changes),
        task=lambda name: SimpleNamespace(rows={"train": rows[name] + changes.get("more", 0)}),
    )


def written(content: Any, folder: Path) -> Path:
    path = folder / "truth.json"
    path.write_text(json.dumps(content))
    return path


def test_a_truth_is_read_as_it_was_written(tmp_path: Path) -> None:
    truth = read_truth(TRUTHS / "trec.base.json")
    write_truth(truth, tmp_path / "again.json")
    assert read_truth(tmp_path / "again.json") == truth
    assert {run.start for run in truth.runs} == {"base"}


def test_none_and_all_come_first_whatever_the_order_of_the_runs(content: Any, tmp_path: Path) -> None:
    content["runs"].reverse()
    subsets = subsets_of(read_truth(written(content, tmp_path)))
    assert (len(subsets), len(subsets[0]), len(subsets[1])) == (20, 0, 12)


def test_what_is_no_truth_is_refused_in_one_sentence(content: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, fault in (("none.json", "it does not exist"), ("fifo", "it is no regular file")):
        with pytest.raises(StorageError, match=rf"^Cannot read {tmp_path}/{name}: {fault}\.$"):
            read_truth(tmp_path / name)
    (tmp_path / "text.json").write_text("loss: 1")
    with pytest.raises(InputError, match="is not JSON"):
        read_truth(tmp_path / "text.json")
    with pytest.raises(InputError, match="expected the fields start and runs"):
        read_truth(written([], tmp_path))
    content["runs"][3]["val_loss"] = "low"
    with pytest.raises(InputError, match=r"not valid at runs\.3\.val_loss"):
        read_truth(written(content, tmp_path))


def test_a_subset_without_one_of_the_seeds_is_named(content: Any, tmp_path: Path) -> None:
    content["runs"].append(content["runs"][0] | {"seed": 1})
    with pytest.raises(
        InputError, match=r"no run with seed 1 on .*: expected every subset with the same seeds"
    ):
        read_truth(written(content, tmp_path))


def test_few_subsets_are_refused(content: Any, tmp_path: Path) -> None:
    content["runs"] = content["runs"][:7]
    with pytest.raises(InputError, match="has 7 subsets: expected 8 or more"):
        read_truth(written(content, tmp_path))


def test_a_truth_without_a_run_on_no_source_is_refused(content: Any, tmp_path: Path) -> None:
    content["runs"] = content["runs"][1:]
    with pytest.raises(InputError, match="lacks a run on none or on all of the sources"):
        check_fits(read_truth(written(content, tmp_path)), data(), RECIPE)


def test_a_truth_of_this_study_fits() -> None:
    check_fits(read_truth(TRUTHS / "sst2.base.json"), data(), RECIPE)


@pytest.mark.parametrize(
    ("changes", "recipe", "message"),
    [
        ({"suite": "other"}, {}, "The truth is of suite 'study-sst2': expected 'other', as in this study."),
        ({"target": "trec"}, {}, "The truth is of target 'sst2': expected 'trec', as in this study."),
        ({"auxiliary_tasks": ["mr"]}, {}, r"The truth is of sources \[.*\]: expected \['mr'\]"),
        ({"max_length": 104}, {}, "The truth is of max_length 32: expected 104, as in this study."),
        ({"more": 1}, {}, "A run of the truth, on no source, has 100 train rows: expected 101"),
        ({}, {"learning_rate": 1e-4}, "The truth is of learning_rate 5e-05: expected 0.0001"),
        ({}, {"steps": 41}, "A run of the truth, on no source, has 40 optimizer steps: expected 41"),
    ],
)
def test_a_truth_of_another_study_is_refused(
    changes: dict[str, Any], recipe: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_fits(read_truth(TRUTHS / "sst2.base.json"), data(**changes), RECIPE.model_copy(update=recipe))


@pytest.mark.parametrize(
    ("target", "start", "lds"),
    [
        ("sst2", "base", 0.88),
        ("trec", "base", 0.98),
        ("tweet_emotion", "base", 0.92),
        ("sst2", "meta", 0.90),
        ("trec", "meta", 0.98),
        ("tweet_emotion", "meta", 0.84),
    ],
)
def test_the_default_estimate_ranks_subsets_of_real_targets(
    target: str, start: str, lds: float, tmp_path: Path
) -> None:
    with tarfile.open(STORES / f"{target}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    truth = read_truth(TRUTHS / f"{target}.{start}.json")
    meta = TrainingRecipe.of(SETTINGS.training, SETTINGS.meta_training)
    config = SubsetEstimationConfig.of(SETTINGS.estimation, RECIPE, meta, truth.start)
    estimator = open_estimator(config, GradientStore(str(tmp_path)))
    masks = np.stack([estimator.statistics.mask(run.subset) for run in truth.runs])
    with threadpool_limits(1, "blas"):
        estimates = estimator.mean_losses(masks)
    assert spearman(estimates, np.array([run.val_loss for run in truth.runs])) == pytest.approx(lds, abs=0.03)
