"""Every Markdown and HTML artifact in headless Chromium, 600 pixels wide: what `make test-pages` runs.

Not collected by itself, as it needs Debian's package `chromium`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report_variants
import yaml
from browser.chromium import markdown_page, overflows
from evaluation_output import evaluation

from gradsift.components.data_preparation.cleaning.statistics import markdown_statistics
from gradsift.components.preflight.step import preflight
from gradsift.components.promotion.summary import summary_of, unchanged
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.pipeline_settings import form_of
from gradsift.components.shared.parameters.promotion import PromotionConfig

COMMITTED = Path(__file__).parents[2] / "pipelines" / "pipeline.yaml"
LONG_NAME = "scan_structured_text_generation_command_action_short"
"""The longest name of a task in Super-NaturalInstructions has no more characters."""


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return pages of each artifact by its name."""
    folder = tmp_path_factory.mktemp("artifacts")
    return {
        "checks": [markdown_page(text) for text in checks(folder)],
        "statistics": [markdown_page(text) for text in statistics()],
        "summary": [markdown_page(text) for text in summaries(folder)],
        "report": [report_variants.rendered(variant()) for variant in report_variants.VARIANTS],
    }


def checks(folder: Path) -> Iterator[str]:
    wrong = {
        "evaluate_seeds": 0,
        "target": "sst",
        "base_model": f"/models/{LONG_NAME}",
        "platform_secret": "No",
    }
    for parameters in ({}, wrong):
        report = folder / "checks.md"
        try:
            preflight(form_of({"output_uri": str(folder / "root"), **parameters}), report)
        except InputError:
            assert parameters == wrong
        yield report.read_text()


def statistics() -> Iterator[str]:
    for variant in (report_variants.usual, report_variants.sixty_tasks):
        entries = variant()["statistics"]
        yield markdown_statistics("demo", [each | {"cut": {"train": 12}} for each in entries])


def summaries(folder: Path) -> Iterator[str]:
    model = StepOutput(f"{folder}/fine_tuned_models/0123456789abcdef", "0f", {})
    for subset in ([], ["trec", LONG_NAME, "mr_flipped"]):
        yield summary_of(evaluation(folder, subset), model, f"Version 7 of {LONG_NAME} is champion.")
    yield unchanged(PromotionConfig(model_name=LONG_NAME))


def test_every_artifact_that_is_shown_is_looked_at(artifacts: dict[str, list[str]]) -> None:
    components: dict[str, Any] = next(yaml.safe_load_all(COMMITTED.read_text()))["components"]
    outputs = (each.get("outputDefinitions", {}).get("artifacts", {}) for each in components.values())
    kinds = {name: each["artifactType"]["schemaTitle"] for made in outputs for name, each in made.items()}
    assert {name for name, kind in kinds.items() if kind in {"system.HTML", "system.Markdown"}} == set(
        artifacts
    )


def test_every_artifact_fits_the_panel(artifacts: dict[str, list[str]], tmp_path: Path) -> None:
    pages = {f"{name} {number}": page for name, made in artifacts.items() for number, page in enumerate(made)}
    assert overflows(pages, tmp_path) == {}


def test_what_is_too_wide_is_seen(tmp_path: Path) -> None:
    table = "| a | b |\n|---|---|\n| {} | {} |\n"
    pages = {"wide": table.format("x" * 50, "y" * 50), "narrow": table.format("x " * 50, "y " * 50)}
    found = overflows({name: markdown_page(text) for name, text in pages.items()}, tmp_path)
    assert found.keys() == {"wide"}
