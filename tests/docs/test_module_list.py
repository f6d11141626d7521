"""Tests that CONTRIBUTING has a line for each file of krona_tune/, and that every file exists that a page names."""

import re
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT
from tests.docs.module_list import COMMAND, CONTRIBUTING, first_sentence, with_list

FILES = [
    str(path.relative_to(ROOT)) for folder in ("krona_tune", "tests", "docs") for path in (ROOT / folder).rglob("*.py")
]
MODULES = sorted((ROOT / "krona_tune").rglob("*.py"))
NAMED = re.compile(r"(?<![\w/.*-])(?:(?:[\w-]+/)+[\w-]+\.py(?!\w)|(?<=`)\w+\.py(?=`))")
"""The name of a file: with its folders, or alone in backquotes."""


def is_there(name: str) -> bool:
    return any(f"/{file}".endswith(f"/{name}") for file in [*FILES, "run_study.py", "setup.py"])


def test_contributing_has_a_line_for_each_file() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    assert with_list(text) == text, f"the list is out of date; make it again: {COMMAND}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_modules_first_sentence_begins_with_a_verb(path: Path) -> None:
    assert re.match(r"[A-Z][a-z]+s\b.*\.$", first_sentence(path)), first_sentence(path)


@pytest.mark.parametrize("page", [CONTRIBUTING, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_each_file_that_a_page_names_exists(page: Path) -> None:
    named = set(NAMED.findall(page.read_text(encoding="utf-8")))
    assert not [name for name in named if not is_there(name)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_file_that_a_module_names_exists(path: Path) -> None:
    assert not [name for name in NAMED.findall(path.read_text(encoding="utf-8")) if not is_there(name)]
