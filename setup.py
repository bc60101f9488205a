"""Finds the packages: `components/` and `pipelines/` are installed as parts of the namespace `gradsift`.

Everything else is in pyproject.toml, whose `packages.find` has no way to put a prefix before what it finds.
"""

from setuptools import find_packages, setup

FOLDERS = ("components", "pipelines")

setup(
    packages=[
        f"gradsift.{name}" for name in find_packages(include=[*FOLDERS, *(f"{each}.*" for each in FOLDERS)])
    ],
    package_dir={f"gradsift.{folder}": folder for folder in FOLDERS},
)
