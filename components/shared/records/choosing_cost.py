"""What choosing costs beside training on every estimated subset: plans predict it, reports measure it."""

MAX_COST_SHARE = 1 / 20
"""What a selection may cost, as a share of training on every subset that was estimated."""


def cost_of_all(cost: float, runs: int, subsets: int) -> float:
    """Return what fine-tuning runs on all estimated subsets would cost at the mean of some runs.

    Args:
        cost: what the runs cost together, in any unit.
        runs: how many they are.
        subsets: how many subsets are estimated.
    """
    return cost / runs * subsets


def cost_share(cost: float, others: float, of_all: float) -> float:
    """Return what choosing costs as a share of training on every estimated subset.

    Args:
        cost: what the runs before the choice cost, in any unit.
        others: what meta-training, gradients and estimates cost.
        of_all: what runs on all estimated subsets would cost (see `cost_of_all`).
    """
    return (cost + others) / max(of_all, cost)
