"""The reason says how, how much and how sure, in words that follow the numbers."""

from typing import Any

import numpy as np
import pytest

from gradsift.components.subset_estimation.choices import make_choices
from gradsift.components.subset_estimation.config import SubsetEstimationConfig
from gradsift.components.subset_estimation.reason import reason_of

QUICK = {"ridge": 1.0, "random_subsets": 30, "random_baseline_draws": 4}
LIMITS = "the estimates rank subsets; they do not predict the loss after fine-tuning."


def _reason(problem: Any, **settings: Any) -> str:
    config = SubsetEstimationConfig(**(QUICK | settings))
    ledger = problem.ledger()
    return reason_of(config, ledger, make_choices(config, ledger))


def _problem(synthetic: Any, helpful: int, flipped: int, validation: int) -> Any:
    generator = np.random.default_rng(0)
    direction = np.eye(6)[:1]
    tasks = {
        f"task{index}": synthetic.signal(generator, 50, direction, flip=index >= helpful)
        for index in range(helpful + flipped)
    }
    target, rows = (synthetic.signal(generator, count, direction) for count in (20, validation))
    return synthetic.Problem(tasks, target, rows)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (
            "forward_stepwise",
            "Forward stepwise selection chose {} of 4 auxiliary tasks: from the target alone",
        ),
        ("random_ensemble", "Random ensemble chose {} of 4 auxiliary tasks: random subsets with them have"),
        (
            "best_of_m",
            "Best of m chose {} of 4 auxiliary tasks: the lowest estimated loss of 30 random subsets.",
        ),
    ],
)
def test_it_says_how_the_subset_was_chosen(synthetic: Any, method: str, words: str) -> None:
    problem = _problem(synthetic, 2, 2, 200)
    config = SubsetEstimationConfig(method=method, **QUICK)  # type: ignore[arg-type]
    ledger = problem.ledger()
    choices = make_choices(config, ledger)
    reason = reason_of(config, ledger, choices)
    assert reason.startswith(words.format(choices.methods[method].sum()))
    assert f"Its estimated validation loss is {ledger.known(choices.methods[method]).loss:.4f}." in reason
    assert reason.endswith(LIMITS)


def test_a_clear_gain_has_its_standard_error_and_no_doubt(synthetic: Any) -> None:
    reason = _reason(_problem(synthetic, 2, 2, 400))
    assert " with all auxiliary tasks, " in reason
    assert reason.count("more (standard error ") == 2
    assert "too little to tell" not in reason
    assert "4 random subsets of the same size have " in reason


def test_a_gain_within_its_error_is_called_too_little_to_tell(synthetic: Any) -> None:
    assert "too little to tell" in _reason(_problem(synthetic, 2, 2, 3))


def test_no_useful_task_is_said_plainly(synthetic: Any) -> None:
    reason = _reason(_problem(synthetic, 0, 3, 200))
    assert reason.startswith(
        "Forward stepwise selection chose no auxiliary task: none lowers the estimated loss."
    )
    assert "with the target alone" not in reason
    assert "random subsets" not in reason


def test_a_method_with_a_lower_estimate_is_named(synthetic: Any) -> None:
    reason = _reason(_problem(synthetic, 3, 3, 200), method="random_ensemble", ensemble_top=1)
    assert "The lowest estimate on this store is that of forward_stepwise" in reason
