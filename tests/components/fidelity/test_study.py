"""The fidelity study: its judgement on known losses, its report, and a whole small study on real text."""

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from forked_training import forked_training
from rich.console import Console
from synthetic_store import store_header
from tiny_language_models import make_base, write_suite

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.fidelity.judging import CHOSEN, judge, ledger_of
from gradsift.components.fidelity.report import write_report
from gradsift.components.fidelity.results import Fidelity, MethodFidelity, TruthFidelity
from gradsift.components.fidelity.study import Study, run_study
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradient_store.gradient_format import Shard
from gradsift.components.shared.gradient_store.gradient_store import GradientStore, GradientStoreWriter
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.pipeline_settings import defaults
from gradsift.components.shared.parameters.training import Start
from gradsift.components.shared.records.fine_tuning_runs import FineTuningRun, FineTuningRuns
from gradsift.components.shared.records.planning import none_all_and_random
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.subset_estimation.estimators.loss_estimator import open_estimator
from gradsift.pipelines.cli.command_line import main
from gradsift.pipelines.local.fidelity_steps import LiveStudySteps

TASKS = [f"task{index}" for index in range(6)]
SUBSETS = none_all_and_random(TASKS, 30, 1)
CONFIG = SubsetEstimationConfig(estimator="gauss_newton", ridge=2.0)
NOISE = 0.002
DEMO = Path(__file__).parents[3] / "components" / "shared" / "data" / "suites" / "demo_suite"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> GradientStore:
    """Return a store of rows whose margins are linear, some tasks with wrong answers."""
    return made_store(str(tmp_path_factory.mktemp("store")), squared_step_norm=1.0)


@pytest.fixture(scope="module")
def base_store(tmp_path_factory: pytest.TempPathFactory) -> GradientStore:
    """Return the same rows with the same gradients at the base weights."""
    return made_store(str(tmp_path_factory.mktemp("base_store")), squared_step_norm=0.0)


def made_store(uri: str, squared_step_norm: float) -> GradientStore:
    header = store_header(dimension=8, blocks=1, squared_step_norm=squared_step_norm, shard_rows=100)
    with GradientStoreWriter(open_storage(uri), header) as writer:
        shards = [
            writer.write_shard(task, split, 0, shard)
            for task, split, shard in linear_shards(np.random.default_rng(0))
        ]
        digest = writer.seal(shards)
    return GradientStore(uri, digest)


def linear_shards(generator: np.random.Generator) -> Iterator[tuple[str, str, Shard]]:
    direction = generator.normal(size=8)
    parts = [(task, "train", index % 2) for index, task in enumerate(TASKS)]
    for task, split, wrong in [*parts, ("target", "train", 0), ("target", "val", 0)]:
        inputs = generator.normal(size=(30, 8))
        answers = np.where((inputs @ direction > 0) != wrong, 1.0, -1.0)
        margin = 0.1 * generator.normal(size=30)
        chance = 1 / (1 + np.exp(-margin))
        gradient = -((1 - chance) * answers)[:, None] * inputs
        probe = np.sqrt(chance * (1 - chance))[:, None] * inputs
        yield (
            task,
            split,
            Shard(
                example_id=[f"{task}-{split}-{row}" for row in range(30)],
                loss=-np.log(chance).astype(np.float32),
                margin=margin.astype(np.float32),
                base_margin=np.zeros(30, np.float32),
                gradient=gradient.astype(np.float32),
                probe=probe[:, None].astype(np.float32),
            ),
        )


@pytest.fixture(scope="module")
def estimates(store: GradientStore) -> "np.typing.NDArray[np.float64]":
    estimator = open_estimator(CONFIG, store)
    return estimator.mean_losses(np.stack([estimator.statistics.mask(subset) for subset in SUBSETS]))


def truth(estimates: "np.typing.NDArray[np.float64]", start: Start, seeds: int = 3) -> FineTuningRuns:
    """Return truths that are 0.1 + 0.5 times the default estimates, but for some noise."""
    generator = np.random.default_rng(seeds)
    runs = [
        FineTuningRun(
            subset=subset,
            seed=seed,
            start=start,
            val_loss=0.1 + 0.5 * estimate + generator.normal(0, NOISE),
            val_accuracy=0.5,
            train_rows=30,
            optimizer_steps=1,
            seconds=10.0,
        )
        for seed in range(seeds)
        for subset, estimate in zip(SUBSETS, estimates, strict=True)
    ]
    return FineTuningRuns(suite="made", target="target", recipe={"steps": 1}, start=start, runs=runs)


@pytest.fixture(scope="module")
def judged(
    store: GradientStore, base_store: GradientStore, estimates: "np.typing.NDArray[np.float64]"
) -> list[TruthFidelity]:
    truths = [truth(estimates, "base"), truth(estimates, "meta", seeds=1)]
    return judge(CONFIG, {"meta": store, "base": base_store}, truths, SUBSETS, 10)


def default(truth: TruthFidelity) -> MethodFidelity:
    wanted = ("gauss_newton", "meta", 2.0)
    return next(each for each in truth.methods if (each.method, each.expansion, each.ridge) == wanted)


def test_an_estimator_that_is_right_but_for_scale_is_found_so(
    judged: list[TruthFidelity], estimates: "np.typing.NDArray[np.float64]"
) -> None:
    base = judged[0]
    found = default(base)
    assert found.lds is not None
    assert found.lds > 0.95
    true = np.array(base.losses)
    assert found.error_raw == pytest.approx(np.mean(np.abs(estimates - true) / true))
    assert found.error_calibrated < 0.01 < base.error_constant
    assert found.error_left_out is not None
    assert found.error_left_out < 0.01 < base.error_constant_left_out
    assert found.regret[-1] < 2 * NOISE
    assert found.estimates == pytest.approx(estimates.tolist())


def test_the_noise_is_measured_where_there_are_seeds(judged: list[TruthFidelity]) -> None:
    several, one = judged
    assert several.ceiling is not None
    assert several.ceiling.deviation == pytest.approx(NOISE, rel=0.3)
    assert several.ceiling.repeated > 0.95
    assert np.mean(several.deviations) == pytest.approx(NOISE, rel=0.3)
    assert (one.ceiling, one.deviations) == (None, [])
    assert (several.seconds, one.seconds) == (960.0, 320.0)


def test_every_estimator_ridge_baseline_and_expansion_is_judged(judged: list[TruthFidelity]) -> None:
    found = {(each.method, each.expansion, each.ridge) for each in judged[0].methods}
    ridges = {1.0, 2.0, 3.0, 10.0, 30.0, 100.0}
    estimators = {
        (name, at, ridge)
        for name in ("gauss_newton", "logistic")
        for at in ("meta", "base")
        for ridge in ridges
    }
    baselines = {
        (name, at, None)
        for baseline in ("gradient_cosine", "gradient_dot", "less", "trak")
        for name in (baseline, f"{baseline}_mean")
        for at in ("meta", "base")
    }
    assert found == estimators | baselines | {
        ("simulated", "meta", None),
        ("simulated", "both", None),
        (CHOSEN, None, None),
    }
    ranks = [each.lds for each in judged[0].methods]
    assert ranks == sorted(ranks, key=lambda rank: -(rank or 0))


def test_a_baseline_ranks_by_the_sum_of_its_scores(judged: list[TruthFidelity], store: GradientStore) -> None:
    statistics = open_estimator(CONFIG, store).statistics
    means = statistics.gradient[:-1] / statistics.rows[:-1, None]
    scores = dict(zip(TASKS, means @ statistics.validation_gradient.mean(axis=0), strict=True))
    expected = [-sum(scores[task] for task in subset) for subset in SUBSETS]
    dot = next(each for each in judged[0].methods if each.method == "gradient_dot")
    assert dot.estimates == pytest.approx(expected)
    assert dot.error_raw is None


@pytest.fixture(scope="module")
def report(
    judged: list[TruthFidelity],
    store: GradientStore,
    estimates: "np.typing.NDArray[np.float64]",
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    seconds = {"meta_training": 60.0, "gradient_extraction": 40.0}
    study = Fidelity(
        suite="made",
        target="target",
        command="gradsift fidelity",
        subsets=SUBSETS,
        seeds=3,
        val_rows=30,
        calibration_runs=10,
        estimator="gauss_newton",
        ridge=2.0,
        recipe={"steps": 1},
        truths=judged,
        ledger=ledger_of(CONFIG, store, [truth(estimates, "base")], seconds),
    )
    folder = tmp_path_factory.mktemp("report")
    study.write(folder)
    write_report(folder)
    return folder


def test_the_table_has_a_row_a_truth_and_method(report: Path, judged: list[TruthFidelity]) -> None:
    with (report / "fidelity.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(truth.methods) for truth in judged)
    [row] = [
        row
        for row in rows
        if (row["truth"], row["method"], row["expansion"], row["ridge"])
        == ("base", "gauss_newton", "meta", "2.0")
    ]
    assert float(row["lds"]) == pytest.approx(default(judged[0]).lds)
    assert float(row["error_constant"]) == pytest.approx(judged[0].error_constant)


def test_the_words_say_the_ceiling_the_constant_predictor_and_the_time(report: Path) -> None:
    text = (report / "fidelity.md").read_text()
    assert "32 subsets (none, all, the others random) of 6 sources, 3 training seeds each" in text
    assert text.count("## Truth: ") == 2
    assert "The noise ceiling, the LDS of training all subsets again, is" in text
    assert "One seed: how much of that is chance is not known." in text
    assert text.count("Predicting the mean of the runs: ") == 2
    assert text.count("| random order |") == 2
    assert text.count("| gauss newton (default) | meta | 2 |") == 2
    assert "The true fine-tunings took 1,280 s, 10.0 s each." in text
    assert "as much as 10.0 true fine-tunings, once." in text


def test_the_figure_is_an_svg_with_a_chart_pair_a_truth(report: Path) -> None:
    root = ElementTree.parse(report / "fidelity.svg").getroot()
    names = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert names.count("gauss newton (meta, ridge 2)") == 2
    assert "gauss newton (meta, ridge 3)" not in names
    assert names.count("noise ceiling") == 1
    dots = [each for each in root.iter("{http://www.w3.org/2000/svg}circle") if each.get("r") == "5"]
    assert len(dots) == 2 * len(SUBSETS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subsets": 7}, "Option subsets is 7: expected 8 or more."),
        ({"seeds": 0}, "Option seeds is 0: expected 1 or more."),
        ({"start": "none"}, "Option start is 'none': expected one of base, meta, both."),
    ],
)
def test_impossible_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        Study(**options)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_a_study_takes_whole_sources(tmp_path: Path) -> None:
    parameters = {**defaults(), "extract_cluster_sources": 2}
    with pytest.raises(InputError, match="extract_cluster_sources is 2: expected 0"):
        run_study(Study(), parameters, tmp_path, "", None)  # type: ignore[arg-type]


def test_a_base_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    suite = small_suite(tmp_path / "suite")
    command = [sys.executable, "-m", "gradsift.pipelines.cli.command_line", "fidelity", "--suite", str(suite)]
    command += ["--subsets", "8", "--base-model", "/no/such", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "The base model '/no/such' was not found" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_data_is_prepared_for_the_base_model_as_in_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_RUN_ID", "put back after the study")
    (tmp_path / "suite").mkdir()
    config = DataPreparationConfig(suite=str(write_suite(tmp_path / "suite")), target="next")
    model = ModelConfig(base_model=str(make_base(tmp_path / "base", "llama")), max_length=24)
    own = {"suite": config.suite, "target": config.target}
    own |= {"base_model": model.base_model, "model_max_length": model.max_length}
    root = tmp_path / "out"
    steps = LiveStudySteps(str(root), Console(quiet=True))
    with pytest.raises(InputError, match="expected at most 0, all that 1 tasks have beside"):
        run_study(Study(), {**defaults(), **own}, root, "gradsift fidelity", steps)
    assert prepare_data(config, str(root), model).reused


def small_suite(folder: Path) -> Path:
    """Write a part of the demo suite with 40 validation rows."""
    known = {task["name"]: task for task in json.loads((DEMO / "manifest.json").read_text())["tasks"]}
    tasks = []
    for name in ("sst2", "mr", "trec", "subj", "mnli"):
        splits = ("train", "val", "test") if name == "sst2" else ("train",)
        for split in splits:
            with gzip.open(DEMO / known[name]["splits"][split]["file"], "rt") as file:
                (folder / f"{name}.{split}.jsonl").write_text("".join(islice(file, 40)))
        files = {split: {"file": f"{name}.{split}.jsonl"} for split in splits}
        tasks.append({"name": name, "labels": known[name]["labels"], "splits": files})
    (folder / "manifest.json").write_text(json.dumps({"suite": "small", "tasks": tasks}))
    return folder


@pytest.mark.slow
def test_a_whole_study_and_again_it_finds_everything_done(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "suite").mkdir()
    out = tmp_path / "out"
    command = ["gradsift", "fidelity", "--suite", str(small_suite(tmp_path / "suite")), "--output", str(out)]
    command += ["--base-model", str(tiny_encoder), "--subsets", "8", "--seeds", "1", "--start", "both"]
    small = ("meta_steps=2", "fine_tune_steps=2", "extract_dimension=16", "extract_projection_width=256")
    for setting in (*small, "train_batch_size=8", "train_precision=float32"):
        command += ["--set", setting]
    monkeypatch.setenv("KFP_RUN_ID", "put back after the study")

    def study(*more: str) -> tuple[Fidelity, dict[Path, int]]:
        """Do it, and return what it found and when each list of trainings was launched."""
        monkeypatch.setattr(sys, "argv", [*command, *more])
        with forked_training(), pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capfd.readouterr().err
        lists = (out / "work").glob("fine_tuning-*-processes/jobs.json")
        return Fidelity.read(out), {path: path.stat().st_mtime_ns for path in lists}

    first, launches = study()
    assert "# Fidelity of estimates: sst2 in small" in capfd.readouterr().out
    assert [each.start for each in first.truths] == ["base", "meta"]
    assert {"base", "meta"} <= {each.expansion for each in first.truths[0].methods}
    assert len(first.truths[0].losses) == 10
    assert len(set(first.truths[0].losses)) == 10
    assert len(list((out / "fine_tuning_runs").iterdir())) == 20
    assert len(launches) == 2

    second, later = study()
    assert later == launches
    assert [each.losses for each in second.truths] == [each.losses for each in first.truths]
    assert second.ledger.meta_training == first.ledger.meta_training, "not the time of finding it"

    third, later = study("--truth", str(out / "true_losses_base" / "fine_tuning_runs.json"))
    assert later == launches
    assert [each.losses for each in third.truths] == [first.truths[0].losses]
