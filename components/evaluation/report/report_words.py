"""How the report writes numbers, names and its headline: a number reads the same everywhere."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from markupsafe import Markup, escape

from gradsift.components.evaluation.report.charts import MINUS
from gradsift.components.shared.metrics.held_out_metrics import MIN_ROWS
from gradsift.components.shared.metrics.lds import RankAgreement
from gradsift.components.shared.parameters.training import Start
from gradsift.components.shared.records.choosing_cost import MAX_COST_SHARE, cost_share
from gradsift.components.shared.records.evaluation_results import LOSS, Evaluation, Interval
from gradsift.components.shared.records.metric_names import metric_words
from gradsift.components.shared.records.selection_results import Calibration, Cost, Selection

NAMES = {
    "selected": "Chosen sources",
    "all": "All sources",
    "all_layers": "Chosen sources, all layers",
    "unconstrained": "Chosen sources, no limit",
    "target_only": "Target only",
    "random": "Random sources",
    "forward_stepwise": "Forward stepwise",
    "random_ensemble": "Random ensemble",
    "best_of_m": "Best of m",
    "gradient_cosine": "Gradient cosine",
    "gradient_dot": "Gradient dot",
    "representation_similarity": "Representation similarity",
    "less": "LESS, one checkpoint",
    "trak": "TRAK",
    "gauss_newton": "Gauss-Newton",
    "logistic": "logistic",
    "simulated": "simulated",
    "per_row": "per row",
    "absolute": "absolute",
    "linear": "Linear",
    "rbf": "RBF kernel",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "numeric_match": "Numeric match",
    "rouge_l": "ROUGE-L",
    "exact_match": "Exact match",
    "token_accuracy": "Token accuracy",
    "accuracy_group": "Accuracy, group",
    "accuracy_others": "Accuracy, others",
    "favoured_group": "Favourable label, group",
    "favoured_others": "Favourable label, others",
    "parity_gap": "Parity gap",
    "true_positive_gap": "True positive gap",
    "false_positive_gap": "False positive gap",
    "flip_labels": "labels flipped on purpose",
    "shuffle_labels": "labels shuffled on purpose",
}
"""What the reader sees in place of an identifier; one that is not here is shown as it is."""


def named(identifier: str) -> str:
    """Return the reader's word for an identifier of the pipeline."""
    if re.fullmatch(r"step \d+", identifier):
        return f"{identifier.capitalize()} of the search"
    return NAMES.get(identifier, identifier)


def starting_model(start: Start) -> str:
    """Return the reader's word for the model that fine-tuning starts from."""
    return {"base": "base", "meta": "meta-trained"}[start]


def wrappable(name: str) -> Markup:
    """Return a task's name that may break into lines after its underscores."""
    return Markup("_<wbr>").join(escape(part) for part in name.split("_"))


def percent(share: float) -> str:
    """Write a share of 1: 0.9134 as `91.3%`."""
    return f"{_number(100 * share, 1)}%"


def percent_range(interval: Interval) -> str:
    """Write the ends of an interval of shares: `89.8 to 92.7%`."""
    return f"{_number(100 * interval.low, 1)} to {_number(100 * interval.high, 1)}%"


def points(share: float) -> str:
    """Write a difference of shares in percentage points, with its sign: 0.018 as `+1.8`."""
    return _signed(100 * share, 1)


def points_range(interval: Interval) -> str:
    """Write the ends of an interval of differences in percentage points: `+0.4 to +3.2`."""
    return f"{points(interval.low)} to {points(interval.high)}"


def nats(value: float) -> str:
    """Write a loss: `0.4121`."""
    return _number(value, 4)


def nats_range(interval: Interval) -> str:
    """Write the ends of an interval of losses: `0.3805 to 0.4410`."""
    return f"{nats(interval.low)} to {nats(interval.high)}"


def signed_nats(value: float) -> str:
    """Write a difference of losses with its sign: `+0.0213`."""
    return _signed(value, 4)


def signed_nats_range(interval: Interval) -> str:
    """Write the ends of an interval of differences of losses: `+0.0120 to +0.0301`."""
    return f"{signed_nats(interval.low)} to {signed_nats(interval.high)}"


def correlation(value: float) -> str:
    """Write a correlation: `0.80`."""
    return _number(value, 2)


def count(value: float) -> str:
    """Write a number of things, thousands apart: `2,048`."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def duration(seconds: float) -> str:
    """Write a time in the two units that matter: `0.42 s`, `12.3 s`, `4 min 12 s`, `1 h 04 min`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def moment(time: datetime) -> str:
    """Write a point in time, in UTC."""
    in_utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return f"{in_utc.day} {in_utc:%B %Y, %H:%M} UTC"


def setting(value: Any) -> str:
    """Write a parameter's value: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def ordinal(rank: int) -> str:
    """Write a rank: `1st`, `2nd`, `3rd`, `11th`."""
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"


def difference_words(interval: Interval, *, more_is_better: bool) -> str:
    """Say what an interval of differences allows to claim: better, worse, or neither."""
    if interval.low <= 0 <= interval.high:
        return "no clear difference"
    return "better" if (interval.low > 0) == more_is_better else "worse"


def calibration_words(calibration: Calibration) -> str:
    """Say what the calibrated estimates are worth, always beside what predicting the mean would be."""
    error, constant = percent(calibration.error_calibrated), percent(calibration.error_constant)
    if calibration.error_calibrated < calibration.error_constant:
        return (
            f"Calibrated, an estimate is off by {error} on average; always predicting the mean of the runs would "
            f"be off by {constant}."
        )
    return (
        f"Calibrated, an estimate is off by {error} on average, no less than the {constant} of always predicting "
        "the mean of the runs: trust the order of the estimates at most, not their values."
    )


def trust_words(agreement: RankAgreement | None) -> str:
    """Say how far the order of the estimates can be trusted here."""
    if agreement is None:
        return (
            "Nothing is known about how well these estimates rank: fewer than five subsets were fine-tuned, or "
            "their losses do not differ."
        )
    return (
        f"These estimates rank subsets at {correlation(agreement.lds)} ({correlation(agreement.low)} to "
        f"{correlation(agreement.high)}) over {agreement.subsets} fine-tuned subsets."
    )


def member_words(member: str) -> str:
    """Write a member of the mixture of estimates.

    `rate x0.25` is a training length and `ridge 3` a ridge; `, alpha 0.75` follows where gradients are blended.
    """
    rule, _, alpha = member.partition(", alpha ")
    if rule.startswith("ridge "):
        words = rule.replace("ridge ", "Ridge regression, c = ")
    else:
        words = f"Simulated run, {rule.removeprefix('rate x')} times the matched length"
    if not alpha:
        return words
    return f"{words}; gradients {float(alpha):.0%} at theta*, the rest at the base weights"


def cost_words(cost: Cost, selection: Selection, seconds: Mapping[str, float]) -> str:
    """Say what a confirmed selection cost beside training on every subset whose loss was estimated.

    Args:
        cost: what its runs cost.
        selection: the selection.
        seconds: how long each step took, by its name; one that was reused took next to nothing.
    """
    others = selection.seconds + sum(
        seconds.get(step, 0.0) for step in ("meta_training", "gradient_extraction")
    )
    share = cost_share(cost.seconds, others, cost.seconds_of_all)
    kept = "within" if share <= MAX_COST_SHARE else "above"
    return (
        f"These {count(cost.runs)} runs took {count(cost.optimizer_steps)} steps on {count(cost.rows)} rows "
        f"({count(cost.tokens)} tokens, {percent(cost.padding / max(cost.tokens, 1))} of them padding) and "
        f"{duration(cost.seconds)}; meta-training, gradients and estimates took {duration(others)}. Together this "
        f"is {percent(share)} of the {duration(cost.seconds_of_all)} that training on each of the "
        f"{count(selection.subsets_estimated)} estimated subsets would take, {kept} the {percent(MAX_COST_SHARE)} "
        "that choosing should cost."
    )


@dataclass(frozen=True)
class Headline:
    """The report's first words.

    Attributes:
        tone: which colours and sign it gets.
        badge: the verdict in two or three words.
        title: what was chosen for which target, and what it bought.
    """

    tone: Literal["good", "neutral", "bad"]
    badge: str
    title: str


def headline(selection: Selection, evaluation: Evaluation) -> Headline:
    """Return the first words: they claim help only where the verdict says so."""
    choice, shares = _choice(selection), f"{selection.target}: {_shares(evaluation)}."
    if evaluation.verdict.helped:
        return Headline("good", "Selection helped", f"{choice} helped {shares}")
    worse = any(
        difference.test[evaluation.primary].high < 0 or difference.test[LOSS].low > 0
        for difference in evaluation.difference_to
    )
    if worse and evaluation.test_rows >= MIN_ROWS:
        return Headline("bad", "Selection did worse", f"{choice} did not help {shares}")
    return Headline("neutral", "No clear gain", f"{choice} did not clearly help {shares}")


def _choice(selection: Selection) -> str:
    chosen, offered = len(selection.selected), len(selection.auxiliary_tasks)
    if chosen == 0:
        return f"Leaving out every one of the {offered} sources"
    if chosen == offered:
        return f"Keeping all {offered} sources"
    return f"Choosing {chosen} of {offered} sources"


def _shares(evaluation: Evaluation) -> str:
    metric = evaluation.primary
    words = f"{percent(evaluation.chosen.test[metric].mean)} test {metric_words(metric)}"
    everything = evaluation.model_of("all")
    if everything is None:
        return words
    return f"{words}, against {percent(everything.test[metric].mean)} with all of them"


def _number(value: float, decimals: int) -> str:
    return _signed(value, decimals).removeprefix("+")


def _signed(value: float, decimals: int) -> str:
    text = f"{abs(value):,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        return text
    return (MINUS if value < 0 else "+") + text
