"""Tests that what the README and docs/ name exists: flags, files, modules, names, extras, targets, links, refusals."""

import ast
import importlib.util
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from krona_tune.cli import app
from tests.benchmarks.curves.figures import points, table
from tests.cli.flags import options_of
from tests.docs.blocks import PAGES, ROOT, blocks
from tests.syntax_trees import tree_of

EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
OTHER_FLAGS = {"--head", "--address", "--no-wait", "--backend-store-uri", "--in-ray", "--stopped-too"}
"""Flags of ray, of MLflow and of benchmarks."""
FOLDERS = ("krona_tune", "tests", "docs", "search_spaces")
FEWEST_LETTERS = 8
"""A text of the code with fewer letters of its own matches too much."""


@cache
def flags() -> frozenset[str]:
    """Returns every flag of every command."""
    verbs = [verb.callback for verb in app.registered_commands]
    return frozenset({"--help"}.union(*map(options_of, verbs)))


@EVERY_PAGE
def test_every_flag_is_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`(--[a-z-]+)", text))
    for block in blocks(page):
        for line in block.text.splitlines():
            if re.match(r"(krona-tune|python run_study\.py) ", line):
                named |= set(re.findall(r" (--[a-z][a-z-]*)", line.partition("  #")[0]))
    assert named <= flags() | OTHER_FLAGS


@EVERY_PAGE
def test_every_file_and_module_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(rf"(?<![\w/.])((?:{'|'.join(FOLDERS)})/[\w./-]*[\w/])", text)
    built = ("docs/_build",)
    assert not [path for path in paths if not path.startswith(built) and not (ROOT / path).exists()]
    modules = re.findall(r"python -m (tests[\w.]+)", text)
    assert not [module for module in modules if importlib.util.find_spec(module) is None]


def test_every_name_of_python_can_be_imported() -> None:
    names = {
        name for page in PAGES for name in re.findall(r"`(krona_tune(?:\.\w+)+)\b", page.read_text(encoding="utf-8"))
    }
    assert len(names) > 20
    assert all(map(pkgutil.resolve_name, names))


@EVERY_PAGE
def test_every_extra_and_every_target_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(re.findall(r"krona_tune\[(\w+)\]", text)) <= project["optional-dependencies"].keys()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([\w-]+)", text, flags=re.MULTILINE)) <= targets


def test_the_readmes_links_lead_somewhere() -> None:
    """The build checks those of docs/."""
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[0].read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def test_every_key_of_the_yaml_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    generated = importlib.import_module("generated_pages")
    found = list(generated.sections())
    assert {"", "adapter", "search.repeats", "tasks.NAME.split"} <= {path for path, _ in found}
    assert not [
        (path, name) for path, model in found for name in model.model_fields if not generated.described(model, name)
    ]


def test_the_table_of_correlations_is_what_the_curves_say() -> None:
    assert "\n".join(table(points())) in (ROOT / "docs" / "factor_shape.md").read_text(encoding="utf-8")


def test_the_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "docs" / "pictures").glob("*.svg")) < 300_000


def test_every_refusal_that_is_not_run_is_one_that_the_code_prints() -> None:
    """Those that are run are compared with what was printed."""
    page = next(page for page in PAGES if page.name == "refusals.md")
    found = blocks(page)
    run = {after for before, after in pairwise(found) if before.refused}
    left = [block.text.strip() for block in found if block.language == "output" and block not in run]
    assert len(left) >= 3
    printed = [re.compile(pattern) for pattern in texts_of_the_code()]
    for text in left:
        problem, _, fix = text.partition(": ")[2].partition("; ")
        for part in (problem, fix):
            assert any(pattern.fullmatch(part) for pattern in printed), part


def texts_of_the_code() -> Iterator[str]:
    """Yields every text of the program as a pattern, in which a value stands for anything."""
    for path in (ROOT / "krona_tune").rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node] if isinstance(node, ast.Constant) else []
            texts = [
                part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else None for part in parts
            ]
            if sum(len(text) for text in texts if text) >= FEWEST_LETTERS:
                yield "".join(".+" if text is None else re.escape(text) for text in texts)
