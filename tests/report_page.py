"""The report as its reader gets it: the text, the tables and the tags of each section."""

from html.parser import HTMLParser
from typing import Any

from report_variants import rendered, usual

VOID = {"meta", "wbr"}
DRAWN = {"line", "rect", "circle", "path", "polygon"}
HYPHENS = str.maketrans("\N{MINUS SIGN}\N{EN DASH}", "--")


class Page(HTMLParser):
    """The report as its reader gets it: text and tables by section, tags with their attributes.

    Minus signs and dashes are read as hyphens. Fails on a tag that is not closed, or closed in a wrong place.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.section = "header"
        self.texts: dict[str, str] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs)["aria-labelledby"] or ""
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in {"td", "th"}:
            self.rows[self.section][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in DRAWN
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"style", "title"} & set(self.open):
            return
        data = data.translate(HYPHENS)
        self.texts[self.section] = self.texts.get(self.section, "") + data
        if {"td", "th"} & set(self.open):
            self.rows[self.section][-1][-1] += data

    def text(self, section: str) -> str:
        return " ".join(self.texts[section].split())

    def row(self, section: str, name: str) -> list[str]:
        """The cells of the first row that starts with `name`, without the drawings."""
        rows = ([" ".join(cell.split()) for cell in row] for row in self.rows[section])
        return [cell for cell in next(row for row in rows if row[0].startswith(name))[1:] if cell]


def page(content: dict[str, Any] | None = None) -> Page:
    return Page(rendered(content or usual()))
