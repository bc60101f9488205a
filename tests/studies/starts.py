"""Compares fine-tuning from the base weights with fine-tuning from theta*, on the test rows of one target.

Usage: python -m tests.studies.starts SUITE TARGET FOLDER SEEDS

SUITE is a folder that `make_suites.py` wrote for TARGET. From each start, the target is fine-tuned by the default
recipe, with seeds 0 to SEEDS - 1, on no source, on all, and on the subset with the lowest estimate for that start,
by the target's small store (see `small_stores.py`). The choice sees no test row. Rows are cut to 32 tokens, as in
`make run`. What is done in FOLDER is not done again.
"""

import sys
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.meta_training.step import meta_train
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.metrics.held_out_metrics import metrics
from gradsift.components.shared.metrics.scores import scores_of
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.parameters.training import Start, TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    FineTuningRun,
    GroupSettings,
    RunGroup,
    base_digests,
)
from gradsift.components.shared.records.planning import runs_of
from gradsift.components.shared.records.run_answers import HeldOutAnswers
from gradsift.components.subset_estimation.step import promising_subsets
from gradsift.pipelines.local.fidelity_steps import LiveStudySteps

STORES = Path(__file__).parents[1] / "components" / "fidelity" / "small_stores"
STARTS: tuple[Start, ...] = ("base", "meta")
COLUMNS = ("start", "sources", "validation loss", "test loss", "test accuracy")


def main(suite: str, target: str, folder: Path, seeds: int) -> None:
    """Train what is missing, and print a Markdown table of means over seeds."""
    root = str(folder.absolute())
    settings = PipelineSettings.of({"suite": suite, "target": target, "model_max_length": 32})
    meta_recipe = TrainingRecipe.of(settings.training, settings.meta_training)
    recipe = TrainingRecipe.of(settings.training, settings.fine_tuning)
    store = _small_store(target, folder / "small_store")
    rows = []
    with LiveStudySteps(root, Console()) as steps:
        data = steps.do("data_preparation", lambda _: prepare_data(settings.data, root, settings.model))
        model = settings.model.resolved(data.metadata["max_length"])
        prepared = PreparedData(fetch(data))
        meta = steps.do("meta_training", lambda tracker: meta_train(model, meta_recipe, data, root, tracker))
        for start in STARTS:
            config = SubsetEstimationConfig.of(settings.estimation, recipe, meta_recipe, start)
            ends = [[], prepared.auxiliary_tasks]
            [chosen] = promising_subsets(config, store, root, ends, 1)
            group = RunGroup(
                purpose=f"true_losses_{start}",
                number=0,
                settings=GroupSettings.of(
                    data, prepared, base_digests(meta), model, recipe, meta if start == "meta" else None
                ),
                runs=runs_of(prepared, [*ends, chosen], recipe, seeds),
            )
            records = steps.do(group.purpose, partial(train_runs, group, data, root))
            names = ("none", "all", ", ".join(chosen))
            for name, subset in zip(names, [*ends, chosen], strict=True):
                own = [
                    fetch(record)
                    for run, record in zip(group.runs, records, strict=True)
                    if set(run.subset) == set(subset)
                ]
                rows.append([start, name, *_figures(own, prepared)])
    print("\n| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))


def _figures(records: list[Path], data: PreparedData) -> list[str]:
    """Return validation loss, test loss and test accuracy of runs with several seeds: the mean, and each."""
    rows = data.split(data.target, "test")
    test = [metrics(scores_of(HeldOutAnswers.read(record), rows)) for record in records]
    figures = [
        [FineTuningRun.read(record).val_loss for record in records],
        [own["loss"] for own in test],
        [own["accuracy"] for own in test],
    ]
    return [f"{np.mean(each):.3f} ({', '.join(f'{one:.3f}' for one in each)})" for each in figures]


def _small_store(target: str, folder: Path) -> StepOutput:
    with tarfile.open(STORES / f"{target}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    uri = str(folder.absolute())
    return StepOutput(uri, GradientStore(uri).digest, {})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
