"""Names in Markdown."""

import re

from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.artifacts.markdown import escaped


def test_names_come_out_as_they_are() -> None:
    assert escaped("mr_flipped and *all*") == r"mr\_flipped and \*all\*"
    assert escaped("a|b") == r"a\|b"
    assert escaped("one\n# two") == r"one \# two"


@given(st.text())
def test_nothing_is_lost_and_every_mark_is_escaped(text: str) -> None:
    written = escaped(text)
    assert re.sub(r"\\(.)", r"\1", written) == " ".join(text.split())
    assert not re.search(r"(?<!\\)(\\\\)*[`*_<>|#~\[\]]", written)
