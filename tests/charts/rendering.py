"""Renders the chart in this process; `python -m tests.charts.rendering` renews the golden renders."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart, _native

CHART = Path(__file__).parents[2] / "charts" / "gradsift"
FOLDER = Path(__file__).parent
TRAINER = "trainer.kubeflow.org/v1alpha1"
RUNTIMES = ("TrainingRuntime", "ClusterTrainingRuntime")
VALUE_SETS = ("default", "everything", "existing_secrets")
RELEASE, NAMESPACE = "gradsift", "team"


@dataclass(frozen=True)
class Render:
    """What Helm makes of the chart and some values."""

    texts: dict[str, str]

    @property
    def notes(self) -> str:
        """Return what an install prints."""
        return self.texts["gradsift/templates/NOTES.txt"]

    @property
    def manifest(self) -> str:
        """Return every object as one YAML text, templates in order of name."""
        manifests = {
            path: text.strip() for path, text in sorted(self.texts.items()) if path.endswith(".yaml")
        }
        return "".join(
            f"---\n# Source: {path}\n{text.removeprefix('---').strip()}\n"
            for path, text in manifests.items()
            if text
        )

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """Return every object, parsed."""
        return [document for document in yaml.safe_load_all(self.manifest) if document]

    def of_kind(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the objects of a kind by name."""
        return {found["metadata"]["name"]: found for found in self.objects if found["kind"] == kind}

    def pods(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield "kind/name" and pod template (metadata and spec) of every object that has or makes pods."""
        for found in self.objects:
            yield from ((_name(found), pod) for pod in _pods(found))


def render(
    values: dict[str, Any] | None = None,
    *,
    trainer: bool = True,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    chart: Path = CHART,
) -> Render:
    """Render for a cluster with or without Kubeflow Trainer v2; Helm checks the values against the schema."""
    options = {"name": release, "namespace": namespace, "api_versions": [TRAINER] if trainer else []}
    with Chart.load(chart) as loaded:
        # Chart.render has no argument for a cluster's API versions; the function below it has.
        texts = _native.call_string(
            "helm_render", loaded._raw(), json.dumps(values or {}), json.dumps(options)
        )
    return Render(json.loads(texts))


def values_of(value_set: str) -> dict[str, Any]:
    """Return the values of a file in tests/charts/values."""
    values: dict[str, Any] = yaml.safe_load((FOLDER / "values" / f"{value_set}.yaml").read_text())
    return values


@cache
def render_of(value_set: str, trainer: bool = True) -> Render:
    """Render with the values of a file in tests/charts/values."""
    return render(values_of(value_set), trainer=trainer)


def golden(value_set: str) -> Path:
    """Return the path of a committed render."""
    return FOLDER / "golden" / f"{value_set}.yaml"


def _name(found: dict[str, Any]) -> str:
    return f"{found['kind']}/{found['metadata']['name']}"


def _pods(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "containers" in node.get("spec", {}):
            yield node
        for child in node.values():
            yield from _pods(child)
    elif isinstance(node, list):
        for child in node:
            yield from _pods(child)


if __name__ == "__main__":
    for name in VALUE_SETS:
        golden(name).write_text(render_of(name).manifest)
