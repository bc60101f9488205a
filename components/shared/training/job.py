"""One model to train, and the files that say in its folder that it is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradsift.components.shared.data.prepared_data import Split
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.training.sampling.sampling_round import SamplingRound

RESULT = "training.json"


@dataclass(frozen=True)
class TrainingJob:
    """One model to train.

    Attributes:
        folder: where the trained model goes, with a name of its own among the jobs; `training.json` in it
            says that it is finished.
        data: the prepared data's folder.
        tasks: names of the tasks whose train rows are used, in order; none leaves the model untrained.
        model: the pretrained model.
        recipe: how it is trained.
        start: folder of a trained model that training goes on from; None starts from the pretrained model.
        keep_model: whether the trained model itself is kept in the folder.
        measured: splits of the target that the model answers once it is trained, `val` or `val` and `test`; its
            answers are kept in the folder (see `run_answers`).
        micro_batches: into how many parts a process divides its rows of an optimizer step, at least.
        round: which round of a meta-training with a sampler this is; None draws by size.
        fairness: the limit on a group's covariance that training keeps to; None for none.
    """

    folder: Path
    data: Path
    tasks: list[str]
    model: ModelConfig
    recipe: TrainingRecipe
    start: Path | None = None
    keep_model: bool = True
    measured: tuple[Split, ...] = ()
    micro_batches: int = 1
    round: SamplingRound | None = None
    fairness: FairnessConfig | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the job as JSON values."""
        paths = {"folder": self.folder, "data": self.data, "start": self.start}
        return {
            **{name: None if path is None else str(path) for name, path in paths.items()},
            "tasks": self.tasks,
            "model": self.model.model_dump(),
            "recipe": self.recipe.model_dump(),
            "keep_model": self.keep_model,
            "measured": self.measured,
            "micro_batches": self.micro_batches,
            "round": None if self.round is None else self.round.to_json(),
            "fairness": None if self.fairness is None else self.fairness.model_dump(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainingJob":
        """Return the job that `to_json` described."""
        return cls(
            folder=Path(values["folder"]),
            data=Path(values["data"]),
            tasks=values["tasks"],
            model=ModelConfig(**values["model"]),
            recipe=TrainingRecipe(**values["recipe"]),
            start=Path(values["start"]) if values["start"] else None,
            keep_model=values["keep_model"],
            measured=tuple(values["measured"]),
            micro_batches=values["micro_batches"],
            round=SamplingRound.from_json(values["round"]) if values["round"] else None,
            fairness=None if values["fairness"] is None else FairnessConfig(**values["fairness"]),
        )

    @property
    def finished(self) -> bool:
        """Whether the trained model, or what it answers, is there."""
        return (self.folder / RESULT).exists()
