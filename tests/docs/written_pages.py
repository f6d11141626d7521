"""Writes the references and the glossary into their pages: `python -m tests.docs.written_pages`."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

from tests.docs.blocks import ROOT

WRITTEN = [
    ROOT / "docs" / name
    for name in ("glossary.md", *(f"reference/{each}.md" for each in ("command_line", "python", "yaml")))
]
COMMAND = "python -m tests.docs.written_pages"
PART = re.compile(
    rf"(?P<begin><!-- made by {re.escape(COMMAND)}: (?P<name>[\w-]+) -->\n)"
    r".*?(?P<end><!-- the end of what it makes -->)",
    re.S,
)


def generated_pages() -> ModuleType:
    """Returns the module of docs/ that makes the texts."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return importlib.import_module("generated_pages")
    finally:
        sys.path.remove(str(ROOT / "docs"))


def rewritten(page: Path) -> str:
    """Returns a page's text with its parts as the program makes them now."""
    texts = generated_pages().TEXTS

    def part(found: re.Match[str]) -> str:
        return f"{found['begin']}\n{texts[found['name']]().strip()}\n\n{found['end']}"

    return PART.sub(part, page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for page in WRITTEN:
        page.write_text(rewritten(page), encoding="utf-8")
