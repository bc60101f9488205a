"""Fixtures for what opens language models: a base of every family, and rows to count with."""

from pathlib import Path

import pytest
from tiny_language_models import CONFIGS, make_base, write_prepared_data

from gradsift.components.shared.data.prepared_data import PreparedData


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: make_base(folder / name, name) for name in CONFIGS}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return PreparedData(write_prepared_data(tmp_path_factory.mktemp("counting")))
