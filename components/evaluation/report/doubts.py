"""What speaks against a verdict, and what a reader must know before the report's numbers."""

from collections.abc import Iterator, Sequence

from gradsift.components.shared.metrics.held_out_metrics import MIN_ROWS
from gradsift.components.shared.records.evaluation_results import LOSS, Difference, EvaluatedModel
from gradsift.components.shared.records.metric_names import metric_words, primary_metric

EXACT = "exact_match"
MAX_LOSS_RATIO = 10.0
MIN_LOSS_GAP = 0.5
"""An estimate describes another training where it is so many times the true loss, and so many nats away from it."""


def objections(chosen: EvaluatedModel, differences: Sequence[Difference], test_rows: int) -> list[str]:
    """Return a sentence for each reason why the test rows do not allow to say that the selection helped.

    Args:
        chosen: the model of the selection.
        differences: the chosen model minus each comparison.
        test_rows: rows of the target's test split.
    """
    metric = primary_metric(chosen.test)
    found = []
    if test_rows < MIN_ROWS:
        rows = "1 test row is" if test_rows == 1 else f"{test_rows} test rows are"
        found.append(f"{rows} too few for a verdict: {MIN_ROWS} are needed.")
    if chosen.test[metric].mean == 0:
        found.append(f"No test answer of the chosen model is right: its {metric_words(metric)} is 0%.")
    return [*found, *(_contradiction(each, metric) for each in differences if _contradicts(each, metric))]


def cautions(models: Sequence[EvaluatedModel], val_rows: int) -> list[str]:
    """Return a sentence for each reason not to trust the estimates, the choice or the answers.

    Args:
        models: the compared models.
        val_rows: rows of the target's validation split, by which subsets were chosen.
    """
    found = []
    if val_rows < MIN_ROWS:
        found.append(
            f"The choice rests on few validation rows: {val_rows}, where {MIN_ROWS} are needed for a reliable one."
        )
    if all(EXACT in model.test and model.test[EXACT].mean == 0 for model in models):
        found.append("No model wrote a single expected answer word for word: exact match is 0% everywhere.")
    return [*found, *_wrong_estimates(models)]


def _wrong_estimates(models: Sequence[EvaluatedModel]) -> Iterator[str]:
    for model in models:
        estimate, truth = model.estimated_loss, model.true_val_loss
        if abs(estimate - truth) >= MIN_LOSS_GAP and max(estimate, truth) >= MAX_LOSS_RATIO * min(
            estimate, truth
        ):
            yield (
                f"The estimated loss of {model.name!r} is {estimate:.4g}, its true loss {truth:.4g}: the estimates "
                "do not describe this training."
            )


def _contradicts(difference: Difference, metric: str) -> bool:
    loss, share = difference.test[LOSS], difference.test[metric]
    return (loss.high < 0 and share.high < 0) or (loss.low > 0 and share.low > 0)


def _contradiction(difference: Difference, metric: str) -> str:
    side = "lower" if difference.test[LOSS].high < 0 else "higher"
    return (
        f"The metrics contradict each other in comparison with {difference.name!r}: test loss and "
        f"{metric_words(metric)} are both {side}."
    )
