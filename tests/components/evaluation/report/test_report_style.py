import re
from pathlib import Path

import pytest

from gradsift.components.evaluation.report import report
from gradsift.components.evaluation.report.task_map_chart import COLOURS

CSS = "".join((Path(report.__file__).parent / name).read_text(encoding="utf-8") for name in report.STYLES)
COLOUR = r"--([\w-]+): (#[0-9a-f]{6});"
HEAT = range(report.HEAT_LEVELS + 1)


GROUPS = [f"colour-{number}" for number in range(COLOURS)]


def palette(theme: str) -> dict[str, str]:
    screens = re.split(r"@media screen and \(prefers-color-scheme: dark\)", CSS)
    light = re.findall(r"^:root \{(.*?)^\}", CSS, re.DOTALL | re.MULTILINE)
    dark = [re.findall(r":root \{(.*?)\}", screen, re.DOTALL)[0] for screen in screens[1:]]
    blocks = light if theme == "light" else [*light, *dark]
    return {name: colour for block in blocks for name, colour in re.findall(COLOUR, block)}


def luminance(colour: str) -> float:
    parts = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two colours."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(theme: str) -> None:
    colours = palette(theme)
    pairs = [(ink, ground) for ink in ("ink", "muted") for ground in ("page", "surface")]
    pairs += [(tone, f"{tone}-soft") for tone in ("good", "bad", "neutral")]
    pairs += [("accent-ink", "accent-soft"), ("accent-ink", "surface"), ("ink", "accent-soft")]
    pairs += [(f"heat-{'low' if level < 4 else 'high'}-ink", f"heat-{level}") for level in HEAT]
    assert [pair for pair in pairs if contrast(colours[pair[0]], colours[pair[1]]) < 4.5] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_have_the_contrast_that_wcag_aa_asks_for(theme: str) -> None:
    colours = palette(theme)
    marks = ("accent", "weak", "zero", "ink", "together", "redundant", *GROUPS)
    assert [mark for mark in marks if contrast(colours[mark], colours["surface"]) < 3] == []


def test_every_heat_level_has_its_colours() -> None:
    for level in HEAT[1:]:
        dark_ink = " color: var(--heat-high-ink);" if level >= 4 else ""
        assert f".heat .heat-{level} {{ background: var(--heat-{level});{dark_ink} }}" in CSS


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_groups_have_colours_of_their_own(theme: str) -> None:
    colours = palette(theme)
    assert len({colours[group] for group in GROUPS}) == len(GROUPS)
    assert [group for group in GROUPS if f".{group} {{ --spot: var(--{group}); }}" not in CSS] == []


def test_every_colour_that_is_used_is_defined() -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", CSS))
    assert used - {"tone", "tone-soft", "spot"} == set(palette("light")) == set(palette("dark"))
