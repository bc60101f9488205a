"""The plan of a run's cost as a table and sentences."""

from collections.abc import Iterator

from gradsift.components.preflight.cost.hardware import Hardware
from gradsift.components.preflight.cost.plan import CostPlan
from gradsift.components.shared.records.choosing_cost import MAX_COST_SHARE

PREFIXES = {"Z": 1e21, "E": 1e18, "P": 1e15, "T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}
UNITS = {"d": 86400, "h": 3600, "min": 60}


def table(plan: CostPlan, hardware: Hardware) -> list[list[str]]:
    """Return titles, a line for each phase, and the sum; the first column is text, the others are numbers."""
    lines = [["phase", "runs", "steps", "rows", "tokens", "FLOP", f"{hardware.device}-hours", "time", "pods"]]
    times = []
    for phase in plan.phases:
        seconds = hardware.seconds(phase.operations)
        times.append(seconds / phase.devices)
        lines.append(
            [
                phase.name,
                f"{phase.runs:,}",
                f"{phase.steps:,}",
                f"{phase.rows:,}",
                short(phase.tokens),
                short(phase.operations),
                short(seconds / 3600),
                duration(times[-1]),
                f"{phase.pods:,}",
            ]
        )
    operations = sum(phase.operations for phase in plan.phases)
    summed = [f"{sum(getattr(phase, name) for phase in plan.phases):,}" for name in ("runs", "steps", "rows")]
    tokens = short(sum(phase.tokens for phase in plan.phases))
    hours = short(hardware.seconds(operations) / 3600)
    lines.append(["all", *summed, tokens, short(operations), hours, duration(sum(times)), f"{plan.pods:,}"])
    return lines


def sentences(plan: CostPlan, hardware: Hardware) -> Iterator[str]:
    """Yield what the table does not say."""
    estimation, search = plan.estimation, plan.estimation.search
    kept = "within" if plan.share <= MAX_COST_SHARE else "above"
    yield (
        f"Up to the choice this is {plan.share:.2g} of the {short(plan.of_all)} FLOP "
        f"({short(hardware.seconds(plan.of_all) / 3600)} {hardware.device}-hours) that training on each of the "
        f"{search.subsets:,} estimated subsets would take, {kept} the {MAX_COST_SHARE:.0%} that choosing should "
        "cost."
    )
    yield f"The gradient store takes {short(estimation.store_bytes)}B in {estimation.store_files:,} files."
    yield (
        f"Estimating takes {duration(estimation.core_seconds)} of one core and "
        f"{short(estimation.memory_bytes)}B of memory for sums; its pods have "
        f"{hardware.resources.small_cpu} cores and {hardware.resources.small_memory}."
    )
    yield (
        f"Times assume {hardware.utilisation:.0%} of {hardware.peak_tflops:g} TFLOP/s of each {hardware.device}, "
        "and count neither padding nor the start of pods."
    )


def short(number: float) -> str:
    """Return a number with three digits and a prefix, such as 1.23M."""
    for prefix, size in PREFIXES.items():
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{prefix}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """Return a time in its largest unit, such as 3.2 h."""
    for unit, size in UNITS.items():
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"
