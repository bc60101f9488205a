"""An error is one line of text that can be seen, whatever it quotes."""

import pytest

from gradsift.components.shared.errors import InputError


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        ("two\nlines", r"two\nlines"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\udcff", r"\udcff"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_python_writes_it(quoted: str, shown: str) -> None:
    assert (
        str(InputError(f"Cannot read {quoted}: it does not exist."))
        == f"Cannot read {shown}: it does not exist."
    )
    assert str(InputError("Très bien, 好.")) == "Très bien, 好."
