"""Writes a line for each file of krona_tune/ into CONTRIBUTING.md: `python -m tests.docs.module_list`."""

import ast
import re
from itertools import groupby
from pathlib import Path

from tests.docs.blocks import ROOT
from tests.syntax_trees import tree_of

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
COMMAND = "python -m tests.docs.module_list"
BEGIN, END = f"<!-- made by {COMMAND} -->\n", "<!-- the end of what it makes -->\n"
"""The lines of CONTRIBUTING.md that the list stands between."""


def first_sentence(path: Path) -> str:
    """Returns the first sentence of a module's docstring in one line."""
    words = " ".join((ast.get_docstring(tree_of(path)) or "").split())
    return re.split(r"(?<=\.)\s", words)[0]


def module_list() -> str:
    """Returns a heading for each package, with the first sentence of the package and of each of its modules."""
    files = sorted((path for path in (ROOT / "krona_tune").rglob("*.py")), key=lambda path: (path.parent, path.name))
    return "\n".join(_package(folder, list(paths)) for folder, paths in groupby(files, key=lambda path: path.parent))


def _package(folder: Path, paths: list[Path]) -> str:
    lines = [f"- `{path.name}`: {first_sentence(path)}" for path in paths if path.stem != "__init__"]
    return "\n".join([f"**`{folder.relative_to(ROOT)}/`** {first_sentence(folder / '__init__.py')}", "", *lines, ""])


def with_list(text: str) -> str:
    """Returns a text of CONTRIBUTING.md with the list as it is now."""
    before, after = text.split(BEGIN, maxsplit=1)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n{module_list()}\n{END}{after}"


if __name__ == "__main__":
    CONTRIBUTING.write_text(with_list(CONTRIBUTING.read_text(encoding="utf-8")), encoding="utf-8")
