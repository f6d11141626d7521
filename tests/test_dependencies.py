"""Tests that krona_tune declares every package that it imports."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.syntax_trees import tree_of

ROOT = Path(__file__).resolve().parent.parent
FOR_USE = ("peft", "onnx", "gguf", "notebook", "quantize", "s3", "gs", "wandb", "dashboard", "service")
"""The extras for users of krona_tune, not for its developers."""


def imported(tree: ast.AST) -> Iterator[str]:
    """Yields the packages that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(each for extra in FOR_USE for each in project["optional-dependencies"][extra])]
    return {canonicalize_name(Requirement(each).name) for each in asked}


def test_every_package_that_is_imported_is_declared() -> None:
    files = [*(ROOT / "krona_tune").rglob("*.py"), ROOT / "run_study.py"]
    found = {name for path in files for name in imported(tree_of(path))}
    others = found - sys.stdlib_module_names - {"krona_tune"}
    assert {"torch", "ray", "yaml"} <= others
    known, given_by = declared(), packages_distributions()
    unknown = {name for name in others if not known & {canonicalize_name(each) for each in given_by.get(name, [name])}}
    assert not unknown, f"imported, and not in pyproject.toml: {', '.join(sorted(unknown))}"


def test_the_table_of_dependencies_lists_each_of_them_once() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    required, _, extras = text.partition("## Extras")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def written(requirement: str) -> str:
        return re.split("[<>=]", requirement)[0]

    assert sorted(re.findall(r"^\| `([^`]+)` \|", required, re.MULTILINE)) == sorted(
        map(written, project["dependencies"])
    )
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| `([^`]+)` \|", extras, re.MULTILINE)
    listed = sorted((extra, package) for named, package in rows for extra in re.findall(r"`(\w+)`", named))
    asked = project["optional-dependencies"]
    assert listed == sorted((extra, written(each)) for extra in FOR_USE for each in asked[extra])
