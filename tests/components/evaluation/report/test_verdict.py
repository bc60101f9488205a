"""The verdict's words in every combination of clear and unclear differences."""

import pytest

from gradsift.components.evaluation.report.verdict import judge
from gradsift.components.shared.records.evaluation_results import Difference, Interval

LOSSES = {
    "better": (-0.3, -0.1),
    "worse": (0.1, 0.3),
    "unclear": (-0.1, 0.2),
    "touching": (-0.2, 0.0),
    "same": (0, 0),
}


def differences(**kinds: str) -> list[Difference]:
    """One difference a comparison; the accuracy always speaks for the selection, the loss as its kind says."""
    accuracy = Interval(mean=0.1, low=0.05, high=0.2)
    return [
        Difference(
            name=name,
            test={
                "loss": Interval(mean=sum(LOSSES[kind]) / 2, low=LOSSES[kind][0], high=LOSSES[kind][1]),
                "accuracy": accuracy,
            },
        )
        for name, kind in kinds.items()
    ]


def test_clearly_better_than_all_is_help() -> None:
    verdict = judge(differences(all="better", target_only="better", random="better"), seeds=3, objections=[])
    assert verdict.helped
    assert verdict.text == (
        "The selection helped: lower test loss than all sources, the target alone, a random subset of the same "
        "size (3 fine-tuning runs each, 95% intervals)."
    )


def test_every_other_combination_is_no_clear_help() -> None:
    verdict = judge(differences(all="better", target_only="worse", random="unclear"), seeds=1, objections=[])
    assert not verdict.helped
    assert verdict.text == (
        "The selection did not clearly help: lower test loss than all sources; higher test loss than the target "
        "alone; no clear difference in test loss to a random subset of the same size (one fine-tuning run each, "
        "95% intervals)."
    )


@pytest.mark.parametrize("kind", ["worse", "unclear", "touching", "same"])
@pytest.mark.parametrize("name", ["all", "target_only", "random"])
def test_one_comparison_that_is_not_clear_is_enough(name: str, kind: str) -> None:
    kinds = {"all": "better", "target_only": "better", "random": "better", name: kind}
    assert not judge(differences(**kinds), seeds=2, objections=[]).helped


@pytest.mark.parametrize(
    ("kind", "helped", "words"),
    [
        ("better", True, "helped: lower test loss than the target alone ("),
        ("worse", False, "did not clearly help: higher test loss than the target alone ("),
        ("touching", False, "did not clearly help: no clear difference in test loss to the target alone ("),
        ("same", False, "did not clearly help: it is the same as the target alone ("),
    ],
)
def test_one_comparison_alone(kind: str, helped: bool, words: str) -> None:
    verdict = judge(differences(target_only=kind), seeds=2, objections=[])
    assert verdict.helped == helped
    assert verdict.text.startswith(f"The selection {words}")


def test_nothing_to_compare_with_is_no_help() -> None:
    assert not judge([], seeds=1, objections=[]).helped
