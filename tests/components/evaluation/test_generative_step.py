"""The whole step for a target whose answers are written, by a causal and a sequence-to-sequence model."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_training import forked_training
from selection_output import produce_selection
from synthetic_store import write_store
from tiny_language_models import make_base, produce_prepared_data
from torch.nn import functional

from gradsift.components.evaluation.kernel.expansion import Expansion
from gradsift.components.evaluation.step import REPORT, STEP, OptionalParts, evaluate
from gradsift.components.fine_tuning.final_model import fine_tune_target
from gradsift.components.fine_tuning.plan import plan_comparisons
from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData, Split
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.model_loading import open_model
from gradsift.components.shared.models.prompt_format import final_answer, questions
from gradsift.components.shared.parameters.evaluation import ComparisonConfig, EvaluationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.evaluation_results import Evaluation
from gradsift.components.shared.records.fine_tuning_runs import (
    FineTuningRun,
    GroupSettings,
    RunGroup,
    finished_record,
)
from gradsift.components.shared.records.kernel_report import KernelReport
from gradsift.components.shared.tracking.event_log import run_id
from gradsift.components.shared.tracking.run_record import step_events
from gradsift.components.shared.tracking.tracking import track_step

SUBSETS: dict[str, list[str]] = {"selected": ["before"], "all": ["before", "size"], "target_only": []}
ESTIMATES = {"selected": 0.5, "all": 0.6, "target_only": 0.7}
CONFIG = EvaluationConfig(bootstrap=200)
METRICS = ["loss", "rouge_l", "exact_match", "token_accuracy"]


RECIPE = TrainingRecipe(steps=2, batch_size=8, precision="float32", processes=1, seed=5)


@dataclass(frozen=True)
class Run:
    """A run root with what the step needs, and the step."""

    root: Path
    data: StepOutput
    model: StepOutput
    selection: StepOutput
    groups: list[RunGroup]

    def evaluate(self, kernel_rows: int = 0, sign_kernel: bool = False) -> StepOutput:
        """Where a kernel report is asked for, the final model stands in for theta*.

        Kernels of signs take the answers for names of labels.
        """
        config = CONFIG.model_copy(update={"kernel_rows": kernel_rows, "sign_kernel": sign_kernel})
        answer = "label" if sign_kernel else "text"
        store = f"{self.root}/{answer}-store"
        expansion = None
        if kernel_rows:
            projection = {"kind": "mixed blocks, fold", "seed": 1, "width": 512}
            digest = write_store(store, dimension=64, projection=projection, answer=answer)
            expansion = Expansion(self.model, StepOutput(store, digest, {}))
        with track_step(STEP, str(self.root), config.model_dump()) as tracker:
            inputs = (self.data, self.selection, self.model, self.groups)
            return evaluate(config, *inputs, str(self.root), tracker, OptionalParts(expansion))


@pytest.fixture(scope="module", params=["llama", pytest.param("t5", marks=pytest.mark.slow)])
def run(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("run")
    base = make_base(tmp_path_factory.mktemp("base") / request.param, request.param)
    data = produce_prepared_data(root)
    selection = produce_selection(root, "next", SUBSETS, ESTIMATES)
    config = ModelConfig(base_model=str(base), max_length=64)
    found = find_base_model(str(base))
    digests = [found.digest, found.tokenizer_digest]
    settings = GroupSettings.of(data, PreparedData(fetch(data)), digests, config, RECIPE)
    with forked_training(), track_step("target_finetuning", str(root), {}) as tracker:
        model = fine_tune_target(settings, RECIPE, data, selection, str(root), tracker)
    groups = plan_comparisons(ComparisonConfig(seeds=1), data, selection, model, str(root))
    for group in groups:
        with forked_training(), track_step(f"comparisons-{group.number}", str(root), {}) as tracker:
            train_runs(group, data, str(root), tracker)
    return Run(root, data, model, selection, groups)


@pytest.fixture(scope="module")
def finished(run: Run) -> StepOutput:
    return run.evaluate()


@pytest.fixture(scope="module")
def given(run: Run) -> LanguageModel:
    """The final model, the first run of the selection."""
    model = open_model(fetch(run.model))
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture(scope="module")
def evaluation(finished: StepOutput) -> Evaluation:
    return Evaluation.read(fetch(finished))


@pytest.fixture(scope="module")
def by_hand(run: Run, given: LanguageModel) -> list[dict[str, Any]]:
    """What the final model says of each test row: one row at a time, without padding, one token at a time."""
    rows = PreparedData(fetch(run.data)).split("next", "test")
    return [
        _read_and_written(given, question, references)
        for question, references in zip(questions(rows, []), rows["references"][:], strict=True)
    ]


@torch.no_grad()
def _read_and_written(model: LanguageModel, question: Any, references: list[str]) -> dict[str, Any]:
    [tokens] = model.format.tokens([question])
    prompt, answer = tokens or ([], [])
    right = torch.tensor(answer)
    scores = _scores(model, prompt, answer)
    written: list[int] = []
    end = model.tokenizer.eos_token_id
    while len(written) < 40 and (not written or written[-1] != end):
        written.append(int(_scores(model, prompt, [*written, 0])[-1].argmax()))
    return {
        "loss": float(functional.cross_entropy(scores, right)),
        "token_accuracy": float((scores.argmax(1) == right).float().mean()),
        "written": written,
        "references": references,
        "text": lambda tokens: model.tokenizer.decode(tokens, skip_special_tokens=True),
    }


def _scores(model: LanguageModel, prompt: list[int], answer: list[int]) -> Any:
    """Scores [len(answer), V] of the tokens at the answer's places."""
    if model.settings.encoder_decoder:
        start = [model.lm.config.decoder_start_token_id, *answer[:-1]]
        return model.lm(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([start])).logits[0]
    logits = model.lm(input_ids=torch.tensor([[*prompt, *answer[:-1]]])).logits[0]
    return logits[len(prompt) - 1 :]


def test_every_model_has_the_metrics_of_written_answers(evaluation: Evaluation) -> None:
    assert {model.name: model.subset for model in evaluation.models} == SUBSETS
    assert (evaluation.labels, evaluation.confusion) == ([], None)
    assert (evaluation.val_rows, evaluation.test_rows) == (6, 4)
    assert evaluation.base_model is not None
    for found in (evaluation.base_model, *(model.test for model in evaluation.models)):
        assert list(found) == METRICS
        assert all(each.low <= each.mean <= each.high for each in found.values())
    trained = {model.test["loss"].mean for model in evaluation.models}
    assert len(trained) == 3
    assert {each.name for each in evaluation.difference_to} == {"all", "target_only"}


def test_the_final_model_reads_and_writes_as_one_row_and_token_at_a_time(
    evaluation: Evaluation, by_hand: list[dict[str, Any]]
) -> None:
    [run] = evaluation.chosen.runs
    for name in ("loss", "token_accuracy"):
        expected = sum(row[name] for row in by_hand) / len(by_hand)
        assert run.test[name] == pytest.approx(expected, rel=1e-5)
    assert [sample.id for sample in evaluation.samples] == [f"next-test-{row}" for row in range(4)]
    for sample, row in zip(evaluation.samples, by_hand, strict=True):
        assert sample.written in {row["text"](row["written"][:length]) for length in range(41)}
        assert sample.expected == row["references"]
        assert sample.right == (final_answer(sample.written) == sample.expected[0])
    assert run.test["exact_match"] == sum(sample.right for sample in evaluation.samples) / 4


def test_as_much_is_written_as_the_longest_answer_of_train_and_val_rows(
    evaluation: Evaluation, by_hand: list[dict[str, Any]], run: Run, given: LanguageModel
) -> None:
    data = PreparedData(fetch(run.data))
    splits: tuple[Split, Split] = ("train", "val")
    lengths = [
        len(example["label"])
        for split in splits
        for example in given.encode(data.split("next", split), "next")
    ]
    for sample, row in zip(evaluation.samples, by_hand, strict=True):
        assert sample.written == row["text"](row["written"][: max(lengths)])


def test_the_report_and_the_metrics_show_what_was_written(
    finished: StepOutput, evaluation: Evaluation
) -> None:
    report = (Path(finished.uri) / REPORT).read_text()
    assert 'id="samples"' in report
    assert 'id="confusion"' not in report
    assert "ROUGE-L with the chosen sources" in report
    assert all(sample.prompt in report for sample in evaluation.samples)
    metadata = finished.metadata
    for name in METRICS:
        assert metadata[f"test_{name}"] == evaluation.chosen.test[name].mean
    assert {"gain_over_all", "loss_minus_target_only"} <= set(metadata)


def test_progress_counts_the_rows_written_by_every_run_that_is_trained(run: Run) -> None:
    """The group has three runs to train or measure, of 4 test rows each, as the final model is there."""
    written = [
        event
        for event in step_events(str(run.root), run_id())["comparisons-0"]
        if event["event"] == "progress" and event["unit"] == "rows written"
    ]
    assert (written[-1]["done"], written[-1]["total"]) == (12, 12)


def test_a_second_evaluation_finds_the_first(run: Run, finished: StepOutput) -> None:
    assert run.evaluate() == replace(finished, reused=True)


def test_a_kernel_report_compares_the_step_that_was_taken_with_its_derivatives(
    run: Run, finished: StepOutput, evaluation: Evaluation
) -> None:
    output = run.evaluate(kernel_rows=5)
    folder = fetch(output)
    report = KernelReport.read(folder)
    assert (report.rows, report.val_rows) == (5, 6)
    assert [tangent.point for tangent in report.tangents] == ["base", "meta"]
    assert report.at_start.r2[-1] > 0.9, "two small steps are nearly linear"
    assert report.start.loss != report.fine_tuned.loss
    assert output.metadata == finished.metadata | report.metrics
    assert set(report.metrics) == {"linearisation_r2", "linear_loss", "kernel_cosine", "kernel_growth"}
    assert report.features.cosine > 0.9
    assert report.features.projection_cosine > 0.5
    assert max(map(len, report.metrics)) <= 25, "Kubeflow cuts longer names"
    assert Evaluation.read(folder) == evaluation
    page = (folder / REPORT).read_text()
    assert 'id="first-order"' in page
    assert "holds" in page
    assert run.evaluate(kernel_rows=5) == replace(output, reused=True)


def test_kernels_answer_beside_the_models_of_the_target_alone(run: Run) -> None:
    """Both have answered the same validation rows; the means of these answers are in the records of the runs."""
    output = run.evaluate(kernel_rows=200, sign_kernel=True)
    report = KernelReport.read(fetch(output))
    [alone] = [
        FineTuningRun.read(fetch(finished_record(group.settings, planned, str(run.root))))
        for group in run.groups
        for planned in group.runs
        if planned.steps and not planned.subset
    ]
    assert report.sign_kernels is not None
    assert report.sign_kernels.fine_tuned.loss == pytest.approx(alone.val_loss, rel=1e-4)
    assert report.sign_kernels.fine_tuned.accuracy == pytest.approx(alone.val_accuracy)
    assert report.sign_kernels.start.loss == pytest.approx(report.start.loss, rel=1e-4)
    assert report.regression is not None
    assert report.regression.train_rows == sum(
        PreparedData(fetch(run.data)).task(task).rows["train"] for task in ("next", *SUBSETS["selected"])
    )
    smooth = report.regression.curve[-1].loss
    assert smooth == pytest.approx(report.start.loss, rel=0.05), "the largest ridge hardly leaves the start"
    assert output.metadata.keys() >= {"kernel_loss", "sgd_kernel_loss", "sign_kernel_loss"}
    assert max(map(len, report.metrics)) <= 25, "Kubeflow cuts longer names"


def test_more_rows_than_there_are_takes_all_and_agrees_with_the_runs_record(run: Run) -> None:
    report = KernelReport.read(fetch(run.evaluate(kernel_rows=200)))
    assert (report.rows, report.val_rows) == (6, 6)
    [tuned] = [
        FineTuningRun.read(fetch(finished_record(group.settings, planned, str(run.root))))
        for group in run.groups
        for planned in group.runs
        if planned.steps and planned.subset == SUBSETS["selected"]
    ]
    assert report.fine_tuned.loss == pytest.approx(tuned.val_loss, rel=1e-4)
    assert report.fine_tuned.accuracy == pytest.approx(tuned.val_accuracy)


def test_no_kernel_report_is_made_unless_it_is_asked_for(finished: StepOutput) -> None:
    folder = fetch(finished)
    assert not (folder / KernelReport.FILE).exists()
    assert "first-order" not in (folder / REPORT).read_text()
