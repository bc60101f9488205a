"""The estimated gap of a subset is that of its rows' probabilities, and no choice is above the limit on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from gradsift.components.shared.artifacts.step_output import fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedTask, write_index, write_split
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.subset_estimation.selection.choices import search
from gradsift.components.subset_estimation.selection.finalists import next_subsets
from gradsift.components.subset_estimation.selection.gaps import EstimatedGaps
from gradsift.components.subset_estimation.step import estimate_subsets, promising_subsets

CONFIG = SubsetEstimationConfig(estimator="gauss_newton", ridge=1.0, random_subsets=20)
MALE = FairnessConfig(group="male", positive="yes")
V = 40


def groups(seed: int = 0) -> tuple[Any, Any]:
    """Return which validation rows are of the group (NaN: of none), and which deserve the favourable label."""
    generator = np.random.default_rng(seed)
    members = generator.choice([0.0, 1.0, np.nan], V)
    return members, generator.random(V) < np.where(members == 1, 0.8, 0.3)


def gaps_of(ledger: Any, limit: float = 0.0) -> EstimatedGaps:
    return EstimatedGaps(ledger.estimator, *groups(), limit)


def test_the_gap_is_that_of_the_margins_after_training(synthetic: Any) -> None:
    problem = synthetic.problem(tasks=4)
    ledger, masks = problem.ledger(), synthetic.subsets(4)
    members, deserving = groups()
    weights = ledger.estimator._whole.solver.weights(masks)
    margins = problem.validation.margin + weights @ problem.validation.feature.T
    favoured = expit(np.where(deserving, margins, -margins))
    expected = favoured[:, members == 1].mean(axis=1) - favoured[:, members == 0].mean(axis=1)
    np.testing.assert_allclose(gaps_of(ledger).of(masks), expected, atol=1e-9)


def test_a_search_under_a_limit_ends_within_it_at_no_worse_a_subset_than_any_random_one(
    synthetic: Any,
) -> None:
    masks = synthetic.subsets(5)
    free = synthetic.problem(tasks=5).ledger()
    sizes = np.abs(gaps_of(free).of(masks))
    best = search(CONFIG, free).path[-1].mask
    below_the_best = float(np.abs(gaps_of(free).of(best[None]))[0]) * 0.999
    limit = float(np.quantile(sizes[sizes < below_the_best], 0.7))
    ledger = synthetic.problem(tasks=5).ledger()
    gaps = gaps_of(ledger, limit)
    found = search(CONFIG, ledger, gaps)
    chosen = found.path[-1].mask
    assert gaps.permit(np.stack([chosen, found.best])).all()
    permitted = found.sampled[gaps.permit(found.sampled)]
    losses = ledger.mean_losses(np.vstack([permitted, chosen]), "test")
    assert losses[-1] == losses.min()
    ends = masks[[0, -1]]
    assert gaps.permit(next_subsets(ledger, CONFIG, ends, None, 6, gaps)).all()
    assert not gaps.permit(next_subsets(ledger, CONFIG, ends, None, 30)).all()


def test_a_limit_that_nothing_keeps_to_names_the_smallest_gap(synthetic: Any) -> None:
    ledger = synthetic.problem(tasks=3).ledger()
    smallest = np.abs(gaps_of(ledger).of(synthetic.subsets(3))).min()
    with pytest.raises(InputError, match=rf"limit_estimate is 1e-09: expected {smallest:.4f} or more"):
        search(CONFIG, ledger, gaps_of(ledger, 1e-9))


def test_the_step_records_gaps_of_the_stores_rows_and_keeps_to_the_limit(
    synthetic: Any, tmp_path: Path
) -> None:
    """The prepared rows lie in another order than the store's, which is joined to them by their ids."""
    problem = synthetic.problem(tasks=3)
    members, deserving = groups()
    names = {0.0: "female", 1.0: "male|tall"}
    rows = [
        {
            "id": f"target-val-{row}",
            "text": "",
            "text_pair": None,
            "label": int(deserving[row]),
            "group": names.get(members[row]),
        }
        for row in range(V)
    ][::-1]

    def work(folder: Path) -> dict[str, Any]:
        for split in ("train", "val"):
            write_split(folder, "target", split, rows, columns=["group"])
        sources = [
            PreparedTask(name=name, labels=["no", "yes"], rows={"train": 20}) for name in problem.tasks
        ]
        for name in problem.tasks:
            write_split(folder, name, "train", [{**row, "group": None} for row in rows[:20]])
        target = PreparedTask(
            name="target", labels=["no", "yes"], rows={"train": V, "val": V}, columns=["group"]
        )
        write_index(folder, "synthetic", "target", [target, *sources])
        return {}

    root, data = str(tmp_path), produce(str(tmp_path), "data_preparation", {}, work)
    gradients = problem.write(tmp_path / "store")
    output = estimate_subsets(CONFIG, gradients, root, data=data, fairness=MALE)
    selection = Selection.read(fetch(output))
    ledger = problem.ledger()
    for method in selection.methods:
        mask = ledger.estimator.statistics.masks([method.subset])
        assert method.estimated_gap == pytest.approx(gaps_of(ledger).of(mask)[0], abs=1e-4)
    assert selection.gap_limit is None
    sizes = {each.method: abs(each.estimated_gap or 0.0) for each in selection.methods}
    limited = MALE.model_copy(update={"limit_estimate": min(sizes.values())})
    chosen = Selection.read(fetch(estimate_subsets(CONFIG, gradients, root, data=data, fairness=limited)))
    results = {each.method: each for each in chosen.methods}
    assert chosen.permits_gap(results["forward_stepwise"])
    assert chosen.gap_limit == limited.limit_estimate
    promising = promising_subsets(CONFIG, gradients, root, [[]], 5, data, limited)
    gaps = gaps_of(ledger, limited.limit_estimate + 1e-4)
    assert gaps.permit(ledger.estimator.statistics.masks(promising)).all()
    plain = Selection.read(fetch(estimate_subsets(CONFIG, gradients, root, data=data)))
    assert "estimated_gap" not in plain.model_dump_json()
    assert "gap_limit" not in plain.model_dump_json()
