"""Puts the search spaces of the repository's top level inside the installed package."""

from setuptools import find_namespace_packages, setup

SPACES = "krona_tune.search_spaces"

setup(
    packages=[*find_namespace_packages(include=["krona_tune", "krona_tune.*"], exclude=["*__pycache__"]), SPACES],
    package_dir={SPACES: "search_spaces"},
)
