"""Tests that tests use what is public and wait for what they see: a private name and a pause need a reason beside them.

The reason stands in a comment, `# private: …`, `# sleep: …` or `# time: …`, on the same line or above it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import LONGEST

TESTS = Path(__file__).resolve().parent
DOCUMENTED = {"os._exit"}
"""Names that begin with an underscore and are public all the same; those that end with one, as IPython's, are too."""
PRIVATE = re.compile(r"(?:.*\.)?_[a-zA-Z0-9]\w*(?<!_)(?:\..*)?")
"""A name, dotted or not, with a private part."""
BY_NAME = {"setattr", "getattr", "hasattr", "delattr"}
"""The functions that take an attribute's name as a text."""
CLOCKS = {"monotonic", "perf_counter"}


def called(node: ast.AST) -> str:
    """Returns the last part of the name of what a node calls; empty if it calls nothing that has a name."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            return name
    return ""


def private_names(node: ast.AST) -> list[str]:
    """Returns the private names that a node alone reads, replaces or imports, but those of its own class."""
    match node:
        case ast.Attribute(value=ast.Name(id="self" | "cls") | ast.Call(func=ast.Name(id="super"))):
            names = []
        case ast.Attribute(attr=attribute):
            names = [f"{ast.unparse(node.value)}.{attribute}" if attribute[0] == "_" else ""]
        case ast.Import(names=modules):
            names = [each.name for each in modules]
        case ast.ImportFrom(module=module, names=modules):
            names = [f"{module}.{each.name}" for each in modules]
        case ast.Call(args=[_, ast.Constant(value=str(text)), *_]) | ast.Call(args=[ast.Constant(value=str(text)), *_]):
            names = [text] if called(node) in BY_NAME else []
        case _:
            names = []
    return [name for name in names if PRIVATE.fullmatch(name) and not name.endswith(tuple(DOCUMENTED))]


def unexplained(code: str) -> Iterator[str]:
    """Yields the lines of a test that have a private name, a pause or an asserted time, and no reason."""
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        kind = ""
        if private_names(node):
            kind = "private"
        elif called(node) == "sleep":
            kind = "sleep"
        elif isinstance(node, ast.Assert) and any(called(each) in CLOCKS for each in ast.walk(node.test)):
            kind = "time"
        if kind:
            first, last = node.lineno, node.end_lineno or node.lineno  # type: ignore[attr-defined]
            if not any(re.search(rf"(?:^|  )# {kind}: \w", line) for line in lines[max(first - 2, 0) : last]):
                yield lines[first - 1].strip()


def test_a_test_reaches_into_nothing_private_and_neither_sleeps_nor_asserts_a_time_without_a_reason() -> None:
    found = {
        path.relative_to(TESTS).as_posix(): lines
        for path in sorted(TESTS.rglob("*.py"))
        if (lines := [*unexplained(path.read_text(encoding="utf-8"))])
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "import ray._private.worker",
        "from ray._private import worker",
        "from krona_tune.hub import _place",
        "found = study._run()",
        "assert module.tensors[0]._version == 3",
        "monkeypatch.setattr(study, '_run', print)",
        "monkeypatch.setattr('krona_tune.api.study._run', print)",
        "getattr(study, '_run')",
        "time.sleep(0.1)",
        "sleep(0.1)",
        "assert time.monotonic() - began < 3",
    ],
)
def test_such_a_line_is_found_unless_it_says_why(line: str) -> None:
    assert [*unexplained(line)] == [line]
    kinds = ("private", "sleep", "time")
    assert [[*unexplained(f"{line}  # {kind}: it has no other name")] for kind in kinds].count([]) == 1
    assert [*unexplained(f"{line}  # private:")] == [f"{line}  # private:"]


def test_what_is_public_or_its_own_is_not_found() -> None:
    code = """
class Kept:
    def __init__(self):
        self._place = os._exit
        super()._made(Kept.__name__)
        monkeypatch.setattr("krona_tune.cli.os._exit", plan._repr_html_)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        ray.init(**{"_system_config": time.monotonic()})
"""
    assert [*unexplained(code)] == []


def test_each_file_that_begins_first_exists() -> None:
    assert [name for name in LONGEST if not (TESTS.parent / name).is_file()] == []
