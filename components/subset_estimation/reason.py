"""The choice in plain words."""

import numpy as np

from gradsift.components.subset_estimation.choices import Choices
from gradsift.components.subset_estimation.config import SubsetEstimationConfig
from gradsift.components.subset_estimation.ledger import EstimateLedger
from gradsift.components.subset_estimation.task_statistics import BoolArray

SURE = 2
"""A difference of fewer standard errors is called too small to tell."""

BASELINE_WORDS = {"all": "with all auxiliary tasks", "target_only": "with the target alone"}

LIMITS = (
    "Standard errors do not cover the search among many subsets, which favours low estimates. Without "
    "calibration runs the estimates rank subsets; they do not predict the loss after fine-tuning."
)


def reason_of(config: SubsetEstimationConfig, ledger: EstimateLedger, choices: Choices) -> str:
    """Return a few sentences: how the subset was chosen, what it seems to gain, what is not known."""
    chosen = choices.methods[config.method]
    sentences = [
        _how(config, chosen),
        f"Its estimated validation loss is {ledger.known(chosen).loss:.4f}.",
        *(
            _compared(ledger, chosen, choices.methods[name], words)
            for name, words in BASELINE_WORDS.items()
            if (choices.methods[name] != chosen).any()
        ),
        *_random(ledger, choices, chosen),
        *_lower(config, ledger, choices),
        LIMITS,
    ]
    return " ".join(sentences)


def _how(config: SubsetEstimationConfig, chosen: BoolArray) -> str:
    size = f"{chosen.sum()} of {len(chosen)} auxiliary tasks"
    if config.method == "best_of_m":
        return f"Best of m chose {size}: the lowest estimated loss of {config.random_subsets} random subsets."
    if config.method == "random_ensemble":
        rank = "below the others'" if config.ensemble_top else "below the average"
        return f"Random ensemble chose {size}: random subsets with them have a mean estimate {rank}."
    if not chosen.any():
        return "Forward stepwise selection chose no auxiliary task: none lowers the estimated loss."
    return (
        f"Forward stepwise selection chose {size}: from the target alone it added, dropped or swapped "
        "one task at a time as long as that lowered the estimated loss."
    )


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
