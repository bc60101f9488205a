"""The reason says how, how much and how sure, in words that follow the numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.estimators.calibration import Line
from gradsift.components.subset_estimation.explanations.reason import reason_of
from gradsift.components.subset_estimation.selection.choices import Choices, make_choices
from gradsift.components.subset_estimation.selection.ledger import EstimateLedger

QUICK = {"ridge": 1.0, "random_subsets": 30, "random_baseline_draws": 4}
LIMITS = "the estimates rank subsets; they do not predict the loss after fine-tuning."


@pytest.fixture
def choose(tmp_path: Path) -> Any:
    """Makes the choices of a problem, written as a store."""

    def make(problem: Any, shift: float = 0, **settings: Any) -> tuple[str, Choices, EstimateLedger]:
        config = SubsetEstimationConfig(**(QUICK | settings))
        ledger = problem.ledger()
        ledger.estimator.line = Line(1.0, shift)
        output = problem.write(tmp_path / "gradients")
        choices = make_choices(config, ledger, GradientStore(output.uri, output.digest))
        return reason_of(config, ledger, choices, None), choices, ledger

    return make


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
def test_it_says_how_the_subset_was_chosen(synthetic: Any, choose: Any, method: str, words: str) -> None:
    reason, choices, ledger = choose(_problem(synthetic, 2, 2, 200), method=method)
    assert reason.startswith(words.format(choices.methods[method].sum()))
    assert f"Its estimated validation loss is {ledger.known(choices.methods[method]).loss:.4f}." in reason
    assert reason.endswith(LIMITS)


def test_an_estimate_below_zero_is_called_impossible(synthetic: Any, choose: Any) -> None:
    problem = _problem(synthetic, 2, 2, 200)
    reasons = [choose(problem, shift)[0] for shift in (0.0, -5.0)]
    assert [
        " No loss is below zero, so the estimates do not hold here: " in reason for reason in reasons
    ] == [
        False,
        True,
    ]


def test_a_clear_gain_has_its_standard_error_and_no_doubt(synthetic: Any, choose: Any) -> None:
    reason, _, _ = choose(_problem(synthetic, 2, 2, 400))
    assert " with all auxiliary tasks, " in reason
    assert reason.count("more (standard error ") == 2
    assert "too little to tell" not in reason
    assert "4 random subsets of the same size have " in reason


def test_a_gain_within_its_error_is_called_too_little_to_tell(synthetic: Any, choose: Any) -> None:
    reason, _, _ = choose(_problem(synthetic, 2, 2, 3))
    assert "too little to tell" in reason


def test_no_useful_task_is_said_plainly(synthetic: Any, choose: Any) -> None:
    reason, _, _ = choose(_problem(synthetic, 0, 3, 200))
    assert reason.startswith(
        "Forward stepwise selection chose no auxiliary task: none lowers the estimated loss."
    )
    assert "with the target alone" not in reason
    assert "random subsets" not in reason


def test_a_method_with_a_lower_estimate_is_named(synthetic: Any, choose: Any) -> None:
    reason, _, _ = choose(_problem(synthetic, 3, 3, 200), method="random_ensemble", ensemble_top=1)
    assert "The lowest estimate on this store is that of forward_stepwise" in reason


def test_another_rule_to_stop_is_said(synthetic: Any, choose: Any) -> None:
    problem = synthetic.problem(seed=1, tasks=6)
    reason, choices, _ = choose(problem, stopping="one_standard_error")
    assert choices.methods["forward_stepwise"].sum() < choices.path[-1].mask.sum()
    assert "it is the smallest that is as good within one standard error." in reason


def test_limits_are_named(synthetic: Any, choose: Any) -> None:
    limits = {"required_tasks": ["task3"], "excluded_tasks": ["task0"], "max_tasks": 2, "max_rows": 150}
    reason, choices, _ = choose(_problem(synthetic, 2, 2, 200), **limits)
    assert ": from the required tasks it added" in reason
    assert (
        "The limits it was chosen under: task3 must be in, task0 must be out, at most 2 tasks, "
        "at most 150 train rows beside the target's."
    ) in reason
    assert "with all auxiliary tasks that may be in" in reason
    chosen = choices.methods["forward_stepwise"]
    assert chosen[3]
    assert not chosen[0]


def test_near_ties_are_said_to_be_so(synthetic: Any, choose: Any) -> None:
    reason, choices, _ = choose(synthetic.problem(seed=1, tasks=6))
    assert choices.ties
    words = "Within one standard error of it, so that the estimates cannot tell which is best: "
    sizes = {name: int(mask.sum()) for name, mask in choices.ties.items()}
    named = [f"{name} ({size} task{'' if size == 1 else 's'})" for name, size in sizes.items()]
    assert f"{words}{', '.join(named)}." in reason


@pytest.mark.parametrize("settings", [{"ensemble_top": 1}, {"ensemble_threshold": 0.001}])
def test_how_random_ensemble_cuts_is_said(synthetic: Any, choose: Any, settings: Any) -> None:
    reason, _, _ = choose(_problem(synthetic, 2, 2, 200), method="random_ensemble", **settings)
    expected = "below the others'." if "ensemble_top" in settings else "below the average by more than 0.001."
    assert f"have a mean estimate {expected}" in reason
