"""Says in words whether the selection helped on held-out data."""

from collections.abc import Sequence

from gradsift.components.shared.records.evaluation_results import LOSS, Difference, Verdict


def judge(differences: list[Difference], seeds: int, objections: Sequence[str]) -> Verdict:
    """Return the verdict: the selection helped if it has a lower test loss than every comparison, surely.

    Surely means that the whole 95% interval of each paired difference of test losses lies below zero, and that
    nothing speaks against it.

    Args:
        differences: the chosen model minus each comparison, at least one.
        seeds: fine-tuning runs behind each.
        objections: sentences on what speaks against a verdict (see `doubts`).
    """
    better = [each for each in differences if each.test[LOSS].high < 0]
    worse = [each for each in differences if each.test[LOSS].low > 0]
    same = [each for each in differences if each.same_model]
    unclear = [each for each in differences if each not in (*better, *worse, *same)]
    helped = len(better) == len(differences) > 0 and not objections
    parts = []
    if better:
        parts.append(f"lower test loss than {_names(better)}")
    if worse:
        parts.append(f"higher test loss than {_names(worse)}")
    if unclear:
        parts.append(f"no clear difference in test loss to {_names(unclear)}")
    if same:
        parts.append(f"it is the same as {_names(same)}")
    opening = "The selection helped" if helped else "The selection did not clearly help"
    runs = "one fine-tuning run" if seeds == 1 else f"{seeds} fine-tuning runs"
    compared = f"{opening}: {'; '.join(parts)} ({runs} each, 95% intervals)."
    return Verdict(helped=helped, text=" ".join([compared, *objections]))


def _names(differences: list[Difference]) -> str:
    words = {
        "all": "all sources",
        "target_only": "the target alone",
        "random": "a random subset of the same size",
    }
    return ", ".join(words.get(each.name, each.name) for each in differences)
