"""Parses each file of the package once in a process, for all tests that look at its source."""

import ast
from functools import cache
from pathlib import Path


@cache
def tree_of(path: Path) -> ast.Module:
    """Returns the syntax tree of a file that no test changes. The tests share it, so none may change it either."""
    return ast.parse(path.read_text(encoding="utf-8"))
