"""What a text must be to be shown and compared: valid Unicode, one line, something to see."""

import re
import unicodedata

BREAKS_A_LINE = {"Cc", "Cs", "Zl", "Zp"}
INVISIBLE = {*BREAKS_A_LINE, "Cf", "Zs", "Mn", "Mc", "Me"}
"""Unicode's categories of controls, white space, formatting and marks that need another character."""
MARKDOWN = re.compile(r"[\\`*_{}\[\]<>|&~!#]")
"""What Markdown, or Kubeflow's reader of it, would read as more than a text."""
BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and a symbol that are drawn as nothing."""


def is_valid_unicode(text: str) -> bool:
    """Return whether a text can be written in UTF-8: it holds no half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def is_visible(text: str) -> bool:
    """Return whether a text holds a character that can be seen by itself."""
    return any(
        unicodedata.category(character) not in INVISIBLE and character not in BLANK_LETTERS
        for character in text
    )


def single_line(text: str) -> str:
    """Return a text unchanged; raises ValueError where it is not visible, or not one line without controls."""
    if not is_visible(text) or any(unicodedata.category(character) in BREAKS_A_LINE for character in text):
        raise ValueError(f"{text!r} is not allowed: expected one line of text without control characters")
    return text


def visible_form(text: str) -> str:
    """Return what tells a text from others at a glance: in form NFKC, without what is invisible, single blanks."""
    composed = unicodedata.normalize("NFKC", text)
    return " ".join("".join(each for each in composed if unicodedata.category(each) != "Cf").split())


def markdown_text(text: str) -> str:
    """Return a text as one line of Markdown that shows it as it is, in a table's cell too."""
    return MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))
