"""The report of a fidelity study, from `fidelity.json`: a table as Markdown and CSV, and a figure as SVG."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from gradsift.components.fidelity.figure import figure
from gradsift.components.fidelity.results import Fidelity, MethodFidelity, TruthFidelity
from gradsift.components.shared.documents.texts import markdown_text
from gradsift.components.shared.storage.local import atomic_file

MARKDOWN, TABLE, FIGURE = "fidelity.md", "fidelity.csv", "fidelity.svg"
TRUTHS = {
    "base": "the base model fine-tuned on the subset and the target, as the product does",
    "meta": "training going on from theta* on the subset and the target",
}
COLUMNS = (
    "method",
    "expansion",
    "ridge",
    "LDS",
    "95% interval",
    "Kendall",
    "error",
    "left out",
    "none and all",
    "calibrated",
    "regret",
)


def write_report(folder: Path) -> None:
    """Write `fidelity.md`, `fidelity.csv` and `fidelity.svg` beside `fidelity.json`."""
    study = Fidelity.read(folder)
    contents = {MARKDOWN: markdown(study), TABLE: table(study), FIGURE: figure(study)}
    for name, content in contents.items():
        with atomic_file(folder / name) as path:
            path.write_text(content, encoding="utf-8")


def markdown(study: Fidelity) -> str:
    """Return the report in words and tables."""
    parts = [
        f"# Fidelity of estimates: {study.target} in {markdown_text(study.suite)}",
        f"{len(study.subsets)} subsets (none, all, the others random) of {len(study.subsets[1])} sources, "
        f"{_count(study.seeds, 'training seed')} each, judged on {study.val_rows} validation rows.",
        *(_truth(study, truth) for truth in study.truths),
        _ledger(study),
        f"Made by `{study.command}`.",
    ]
    return "\n\n".join(parts) + "\n"


def table(study: Fidelity) -> str:
    """Return one CSV row a truth and method."""
    names = [name for name in MethodFidelity.model_fields if name != "estimates"]
    output = io.StringIO()
    writer = csv.DictWriter(output, ["truth", *names, "error_constant"])
    writer.writeheader()
    for truth in study.truths:
        for method in truth.methods:
            values = method.model_dump(include=set(names))
            writer.writerow({"truth": truth.start, **values, "error_constant": truth.error_constant})
    return output.getvalue()


def _truth(study: Fidelity, truth: TruthFidelity) -> str:
    facts = [
        f"## Truth: {TRUTHS[truth.start]}",
        f"True losses go from {min(truth.losses):.3f} to {max(truth.losses):.3f} nats. {_ceiling(truth)}",
        "LDS is Spearman's rank correlation with the true losses. Errors are mean relative ones: `error` of "
        "estimates as they are, `left out` after a line through all other subsets (predicting their mean: "
        f"{truth.error_constant_left_out:.1%}), `none and all` on the others once these two runs give level and "
        f"slope, `calibrated` after a line through {study.calibration_runs} runs, on the others. Predicting the "
        f"mean of the runs: {truth.error_constant:.1%}. `regret` is that of the best of none, all and "
        f"{len(truth.random_regret)} more runs in the order of the estimates, in nats.",
        _table(COLUMNS, [_row(study, method) for method in truth.methods]),
        _regret(study, truth),
    ]
    return "\n\n".join(facts)


def _ceiling(truth: TruthFidelity) -> str:
    ceiling = truth.ceiling
    if ceiling is None:
        return "One seed: how much of that is chance is not known."
    return (
        f"Between seeds of one subset a loss varies by {ceiling.deviation:.4f} nats (standard deviation). The "
        f"noise ceiling, the LDS of training all subsets again, is {ceiling.repeated:.2f} ({ceiling.low:.2f} to "
        f"{ceiling.high:.2f}); estimates without any error would reach {ceiling.perfect:.2f}."
    )


def _row(study: Fidelity, method: MethodFidelity) -> list[str]:
    interval = "" if method.lds_low is None else f"{method.lds_low:.2f} to {method.lds_high:.2f}"
    return [
        _method(study, method),
        method.expansion or "",
        "" if method.ridge is None else f"{method.ridge:g}",
        _number(method.lds),
        interval,
        _number(method.kendall),
        *(
            "" if error is None else f"{error:.1%}"
            for error in (
                method.error_raw,
                method.error_left_out,
                method.error_none_all,
                method.error_calibrated,
            )
        ),
        f"{method.regret[-1]:.3f}" if method.regret else "",
    ]


def _regret(study: Fidelity, truth: TruthFidelity) -> str:
    """Return the table of regret against the number of runs: by every order at theta* and at random."""
    orders = {method.method: method for method in reversed(truth.methods) if _is_regret_row(study, method)}
    rows = [
        *([_method(study, method), *_regrets(method.regret)] for method in orders.values()),
        ["random order", *_regrets(truth.random_regret)],
    ]
    columns = ["regret in nats with more runs", *map(str, range(1, len(truth.random_regret) + 1))]
    return "Runs on none and all come first.\n\n" + _table(columns, rows)


def _is_regret_row(study: Fidelity, method: MethodFidelity) -> bool:
    return method.expansion == "meta" and method.ridge in (None, study.ridge) and bool(method.regret)


def _regrets(values: Sequence[float]) -> list[str]:
    return [f"{value:.3f}" for value in values]


def _method(study: Fidelity, method: MethodFidelity) -> str:
    return method.method.replace("_", " ") + (" (default)" if study.is_default(method) else "")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ledger(study: Fidelity) -> str:
    ledger = study.ledger
    true = sum(truth.seconds for truth in study.truths)
    return (
        "## Time\n\n"
        f"The true fine-tunings took {true:,.0f} s, {ledger.true_run:.1f} s each. Meta-training took "
        f"{ledger.meta_training:.0f} s, a gradient store {ledger.extraction:.0f} s, reading it "
        f"{ledger.reading:.1f} s: as much as {ledger.worth:.1f} true fine-tunings, once. An estimate then takes "
        f"{1000 * ledger.estimate:.2f} ms, {ledger.true_run / ledger.estimate:,.0f} times less than the truth."
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
