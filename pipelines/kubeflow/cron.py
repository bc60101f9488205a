"""Cron expressions as Kubeflow Pipelines reads them: with seconds, by the rules of robfig/cron 1.2."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "second": (0, 59, ()),
    "minute": (0, 59, ()),
    "hour": (0, 23, ()),
    "day of month": (1, 31, ()),
    "month": (1, 12, MONTHS),
    "day of week": (0, 6, DAYS),
}


def with_seconds(expression: str) -> str:
    """Return a cron expression of six fields.

    Args:
        expression: five fields as everywhere, which get a 0 for the second, or six that begin with the second.
            (Kubeflow itself would take five fields for the first five of the six.)

    Raises:
        ValueError: it has another form; the message says what was expected.
    """
    fields = expression.split()
    if len(fields) not in {5, 6}:
        raise ValueError(f"is {expression!r}: expected 5 fields, or 6 that begin with the second")
    fields = ["0", *fields][-6:]
    for text, (name, (low, high, words)) in zip(fields, FIELDS.items(), strict=True):
        for part in text.split(","):
            if not _is_range(part, low, high, words) or (part[:1] == "?" and not name.startswith("day")):
                expected = f"* or {low} to {high}" + (f" or {words[0]} to {words[-1]}" if words else "")
                raise ValueError(f"is {expression!r}, with the {name} {text!r}: expected {expected}")
    return " ".join(fields)


def _is_range(part: str, low: int, high: int, words: tuple[str, ...]) -> bool:
    """Tell whether a part is `*`, `?`, a number, or a range `a-b`, each with or without a step `/n`."""
    bounds, slash, step = part.partition("/")
    if slash and not (_is_number(step) and 1 <= int(step) <= high - low + 1):
        return False
    if bounds in {"*", "?"}:
        return True
    numbers = [
        low + words.index(text.lower()) if text.lower() in words else int(text) if _is_number(text) else -1
        for text in bounds.split("-")
    ]
    return len(numbers) <= 2 and low <= numbers[0] <= numbers[-1] <= high


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
