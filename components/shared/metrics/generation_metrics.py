"""How near a written text comes to the right ones: exact match, numeric match and ROUGE-L.

Each is 0 to 1 and is the best over a row's references, all the completions that are right.
"""

import re
import string
from collections.abc import Callable, Sequence
from decimal import Decimal

from rouge_score.rouge_scorer import RougeScorer

Metric = Callable[[str, str], float]
"""Of a written text and one reference."""
PUNCTUATION = str.maketrans("", "", string.punctuation)
NUMBER = re.compile(
    r"""
    (?:(?<![\w)\]])(?P<minus>[-\N{MINUS SIGN}]))?         # not the one between the numbers of a difference
    [$€£]?
    (?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)
    """,
    re.VERBOSE,
)


def exact_match(written: str, reference: str) -> float:
    """Return 1 where both texts are the same once normalised, else 0."""
    return float(normalized(written) == normalized(reference))


def numeric_match(written: str, reference: str) -> float:
    """Return 1 where the last numbers of both texts have the same value, else 0; also where one has no number."""
    found = last_number(written)
    return float(found is not None and found == last_number(reference))


def rouge_l(written: str, reference: str) -> float:
    """Return the F1 score of the longest common subsequence of words, without stemming.

    Lin: "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, computed by the package `rouge-score`.
    Words are those of any script, where the package's own know Latin letters without accents only.
    """
    return float(_ROUGE.score(reference, written)["rougeL"].fmeasure)


def best(metric: Metric, written: str, references: Sequence[str]) -> float:
    """Return a metric against the reference that it is highest for."""
    return max(metric(written, reference) for reference in references)


def normalized(text: str) -> str:
    """Return a text in lower case, without punctuation and English articles, words one space apart.

    It is the normalisation of SQuAD (Rajpurkar et al. 2016), but that a text of nothing else than punctuation and
    articles, `-` or `A`, stays what it is.
    """
    lower = text.lower()
    words = re.sub(r"\b(a|an|the)\b", " ", lower.translate(PUNCTUATION)).split()
    return " ".join(words or lower.split())


def last_number(text: str) -> Decimal | None:
    """Return the last number in a text, None where there is none: `1,234.50`, `-$3`, `.5`."""
    numbers = list(NUMBER.finditer(text))
    if not numbers:
        return None
    value = Decimal(numbers[-1]["digits"].replace(",", ""))
    return -value if numbers[-1]["minus"] else value


def is_number(text: str) -> bool:
    """Return whether a text is one number and nothing else, except the sign of a currency, `%` or a full stop."""
    return NUMBER.fullmatch(text.strip().strip("$€£%. ")) is not None


class _Words:
    """Splits a text into words as ROUGE does, of any script; one without words, `} )`, at its spaces."""

    def tokenize(self, text: str) -> list[str]:
        lower = text.lower()
        return re.findall(r"[^\W_]+", lower) or lower.split()


_ROUGE = RougeScorer(["rougeL"], tokenizer=_Words())
