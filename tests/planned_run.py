"""Sets what `gradsift plan` counts against what a finished run did."""

import json
from pathlib import Path
from typing import Any

from gradsift.components.preflight.cost.plan import CostPlan
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings, defaults
from gradsift.pipelines.cli.cost_plan import plan_run


def plan_of(settings: dict[str, Any], root: Path) -> CostPlan:
    return plan_run(PipelineSettings.of({**defaults(), **settings, "output_uri": str(root)}), None, None)


def assert_as_planned(root: Path, plan: CostPlan) -> None:
    """Compare runs, steps, rows and the size of the store; a random subset may have been trained before."""
    [meta] = root.glob("meta_training/*/training.json")
    trained = json.loads(meta.read_text())
    assert (plan.meta.steps, plan.meta.rows) == (trained["optimizer_steps"], trained["examples"])

    [manifest] = root.glob("gradient_extraction/*/manifest.json")
    store = GradientStore(str(manifest.parent))
    assert plan.extraction.rows == sum(shard.rows for shard in store.shards)
    assert plan.estimation.store_files == len([path for path in manifest.parent.rglob("*") if path.is_file()])
    stored = sum(shard.bytes for shard in store.shards)
    headers = 1024 * len(store.shards)
    assert plan.estimation.store_bytes <= stored <= 1.5 * plan.estimation.store_bytes + headers

    [choice] = root.glob("choices/*/selection.json")
    cost = json.loads(choice.read_text())["confirmation"]["cost"]
    assert sum(phase.runs for phase in plan.before) == cost["runs"]
    assert sum(phase.steps for phase in plan.before) == cost["optimizer_steps"]
    assert sum(phase.rows for phase in plan.before) == cost["rows"]

    records = [json.loads(path.read_text()) for path in root.glob("fine_tuning_runs/*/run.json")]
    compared = len(records) - cost["runs"]
    assert plan.compared.runs - compared in (0, 1)
    steps = sum(record["optimizer_steps"] for record in records) - cost["optimizer_steps"]
    per_run = cost["optimizer_steps"] // cost["runs"]
    assert plan.compared.steps - steps == (plan.compared.runs - compared) * per_run
