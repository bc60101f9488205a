"""The step through the real launch."""

from pathlib import Path

from gradsift.components.calibration.plan import plan_runs
from gradsift.components.calibration.step import calibrate
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.true_losses import TrueLosses
from gradsift.components.shared.tracking.tracking import track_step


def test_a_planned_result_is_where_the_plan_says_and_is_found_again(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    base = find_base_model(str(tiny_encoder))
    meta = StepOutput("", "", {"base_model_digest": base.digest, "tokenizer_digest": base.tokenizer_digest})
    recipe = TrainingRecipe(steps=2, batch_size=8, precision="float32", processes=1)
    model = ModelConfig(base_model=str(tiny_encoder))
    config = CalibrationConfig(runs=4, seeds=2)
    planned = plan_runs(config, prepared_data, meta, model, recipe, str(tmp_path))[1]
    outputs = []
    for _ in range(2):
        with track_step("calibration-1", str(tmp_path), {}) as tracker:
            outputs.append(calibrate(planned, prepared_data, str(tmp_path), tracker))
    assert [output.reused for output in outputs] == [False, True]
    assert outputs[0].uri == planned.uri
    true = TrueLosses.read(fetch(outputs[0]))
    assert [run.seed for run in true.runs] == [0, 1, 0, 1]
    assert planned.inputs["subsets"] == [run.subset for run in true.runs[::2]]
    assert outputs[0].metadata == {"subsets": 2, "runs": 4}
    assert {path.name for path in fetch(outputs[0]).rglob("*") if path.is_file()} == {
        "manifest.json",
        "true_losses.json",
        "training.json",
        "val.safetensors",
    }
