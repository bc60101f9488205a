"""The choice in plain words."""

import numpy as np

from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.records.selection_results import Calibration
from gradsift.components.subset_estimation.selection.choices import Choices
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger
from gradsift.components.subset_estimation.statistics.task_statistics import BoolArray

SURE = 2
"""A difference of fewer standard errors is called too small to tell."""

LIMITS = "Standard errors do not cover the search among many subsets, which favours low estimates."
IMPOSSIBLE = "No loss is below zero, so the estimates do not hold here: go by the true losses."
RANKS_ONLY = (
    "Without calibration runs the estimates rank subsets; they do not predict the loss after fine-tuning."
)


def reason_of(
    config: SubsetEstimationConfig, ledger: EstimateLedger, choices: Choices, calibration: Calibration | None
) -> str:
    """Return a few sentences: how the subset was chosen, what it seems to gain, what is not known."""
    chosen = choices.methods[config.method]
    sentences = [
        _how(config, chosen),
        *_limits(config),
        f"Its estimated validation loss is {ledger.known(chosen).loss:.4f}.",
        *([IMPOSSIBLE] if ledger.known(chosen).loss < 0 else []),
        *(
            _compared(ledger, chosen, choices.methods[name], words)
            for name, words in _baseline_words(config).items()
            if (choices.methods[name] != chosen).any()
        ),
        *_random(ledger, choices, chosen),
        *_lower(config, ledger, choices),
        *_ties(choices),
        LIMITS,
        RANKS_ONLY if calibration is None else _calibrated(calibration),
    ]
    return " ".join(sentences)


def _how(config: SubsetEstimationConfig, chosen: BoolArray) -> str:
    size = f"{chosen.sum()} of {len(chosen)} auxiliary tasks"
    if config.method == "best_of_m":
        return f"Best of m chose {size}: the lowest estimated loss of {config.random_subsets} random subsets."
    if config.method == "random_ensemble":
        return f"Random ensemble chose {size}: random subsets with them have a mean estimate {_rank(config)}."
    one_standard_error = config.stopping == "one_standard_error"
    if not chosen.any():
        clearly = " by more than its standard error" if one_standard_error else ""
        return f"Forward stepwise selection chose no auxiliary task: none lowers the estimated loss{clearly}."
    start = "the required tasks" if config.required_tasks else "the target alone"
    taken = "; of the subsets on the way it is the smallest that is as good within one standard error"
    return (
        f"Forward stepwise selection chose {size}: from {start} it added, dropped or swapped one task at a time "
        f"as long as that lowered the estimated loss{taken if one_standard_error else ''}."
    )


def _rank(config: SubsetEstimationConfig) -> str:
    if config.ensemble_top:
        return "below the others'"
    if config.ensemble_threshold:
        return f"below the average by more than {config.ensemble_threshold:g}"
    return "below the average"


def _limits(config: SubsetEstimationConfig) -> list[str]:
    limits = [
        *(f"{task} must be in" for task in config.required_tasks),
        *(f"{task} must be out" for task in config.excluded_tasks),
        *([f"at most {_tasks(config.max_tasks)}"] if config.max_tasks else []),
        *([f"at most {config.max_rows} train rows beside the target's"] if config.max_rows else []),
    ]
    return [f"The limits it was chosen under: {', '.join(limits)}."] if limits else []


def _baseline_words(config: SubsetEstimationConfig) -> dict[str, str]:
    every = "all auxiliary tasks that may be in" if config.excluded_tasks else "all auxiliary tasks"
    return {"all": f"with {every}", "target_only": "with the target alone"}


def _compared(ledger: EstimateLedger, chosen: BoolArray, other: BoolArray, words: str) -> str:
    losses = ledger.losses(np.stack([other, chosen]), "baseline")
    gain = losses.combine(np.array([[1.0, -1.0]])).estimates()
    size, error = abs(gain.loss[0]), gain.standard_error[0]
    direction = "more" if gain.loss[0] >= 0 else "less"
    doubt = ", too little to tell" if size < SURE * error else ""
    loss = ledger.known(other).loss
    return f"It is {loss:.4f} {words}, {size:.4f} {direction} (standard error {error:.4f}){doubt}."


def _random(ledger: EstimateLedger, choices: Choices, chosen: BoolArray) -> list[str]:
    if chosen.all() or not chosen.any():
        return []
    average = np.mean([ledger.known(mask).loss for mask in choices.random])
    return [f"{len(choices.random)} random subsets of the same size have {average:.4f} on average."]


def _lower(config: SubsetEstimationConfig, ledger: EstimateLedger, choices: Choices) -> list[str]:
    losses = {name: ledger.known(mask).loss for name, mask in choices.methods.items()}
    best = min(losses, key=lambda name: losses[name])
    if losses[best] >= losses[config.method]:
        return []
    return [f"The lowest estimate on this store is that of {best}, {losses[best]:.4f}."]


def _calibrated(calibration: Calibration) -> str:
    runs = f"{len(calibration.runs)} true fine-tunings"
    if calibration.slope == 0:
        return (
            f"In {runs} no estimator's order was that of the true losses: do not rely on the estimates here."
        )
    return (
        f"The estimates were put on the scale of {runs}; on runs left out in turn they are off by "
        f"{calibration.error_calibrated:.1%} on average, where predicting the mean is off by "
        f"{calibration.error_constant:.1%}."
    )


def _ties(choices: Choices) -> list[str]:
    if not choices.ties:
        return []
    others = ", ".join(f"{name} ({_tasks(int(mask.sum()))})" for name, mask in choices.ties.items())
    return [f"Within one standard error of it, so that the estimates cannot tell which is best: {others}."]


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
