"""Pages as headless Chromium lays them out, in a panel as wide as Kubeflow's UI opens it beside a run's graph."""

import html
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from markdown_it import MarkdownIt

WIDTH = 600
"""Pixels of the panel."""
PANEL = """\
<!doctype html>
<style>
body { margin: 0; padding: 20px; font: 13px "Helvetica Neue", sans-serif; }
h1 { font-size: inherit; }
</style>
"""
"""What is around a Markdown artifact. The UI allows no HTML in it, and hardly styles what it becomes."""
MEASURE = """
const pages = JSON.parse(document.getElementById("pages").textContent);
const widths = {};
for (const [name, page] of Object.entries(pages)) {
  const frame = document.createElement("iframe");
  frame.style = "border: 0; width: %dpx; height: 900px";
  frame.srcdoc = page;
  frame.onload = () => {
    const inside = frame.contentDocument;
    const right = each => each.getBoundingClientRect().right;
    const shown = [...inside.body.querySelectorAll("*:not(svg *)")].filter(each => !each.closest(".scroll > *"));
    const outside = shown.filter(each => right(each) > inside.documentElement.clientWidth);
    widths[name] = {
      panel: inside.documentElement.clientWidth,
      page: inside.documentElement.scrollWidth,
      outside: outside.map(each => `${each.tagName} ${Math.ceil(right(each))}: ${each.textContent.slice(0, 80)}`),
    };
    if (Object.keys(widths).length === Object.keys(pages).length)
      document.body.textContent = JSON.stringify(widths);
  };
  document.body.append(frame);
}
"""


def markdown_page(text: str) -> str:
    """Return a Markdown artifact as a page."""
    return PANEL + MarkdownIt("commonmark", {"html": False}).enable("table").render(text)


def overflows(pages: Mapping[str, str], folder: Path) -> dict[str, list[str]]:
    """Return what of each page is wider than the panel; pages that fit are left out.

    Boxes of the class `scroll` are looked at from outside: they are meant to be wider inside.

    Args:
        pages: HTML by name.
        folder: where the page that holds them all is written.
    """
    content = json.dumps(pages).replace("</", "<\\/")
    whole = folder / "pages.html"
    whole.write_text(
        f'<!doctype html><meta charset="utf-8"><body><script id="pages" type="application/json">{content}</script>'
        f"<script>{MEASURE % WIDTH}</script>",
        encoding="utf-8",
    )
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000", "--dump-dom")
    printed = subprocess.run(["chromium", *flags, whole.as_uri()], capture_output=True, text=True, check=True)
    body = printed.stdout.partition("<body>")[2].partition("</body>")[0]
    widths = json.loads(html.unescape(body))
    assert widths.keys() == pages.keys()
    return {
        name: each["outside"]
        for name, each in widths.items()
        if each["outside"] or each["page"] > each["panel"]
    }
