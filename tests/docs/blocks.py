"""Finds the code blocks of the README and of docs/, and says what becomes of each.

A block's fence may say, after its language: `study` (it needs the study `first`), `refused` (its last command is
refused with the text of the next block), or `needs=THING` (it is not run, because a test has no such thing). A block
whose first line is `# NAME.yaml` is that file.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ("recipes", "_build")
"""Folders of docs/ whose pages no test here reads: recipes need clusters, and what is built is a copy."""
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if not {*OTHERS} & {*path.relative_to(ROOT).parts}),
]
"""The README and the pages of docs/."""
_BLOCK = re.compile(r"^(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page: its language, what its fence says after that, its text, and where it is."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def needs(self) -> str:
        """Returns what it needs and a test lacks; empty if it can be run."""
        return next((word.removeprefix("needs=") for word in self.words if word.startswith("needs=")), "")

    @property
    def of_study(self) -> bool:
        return "study" in self.words

    @property
    def refused(self) -> bool:
        return "refused" in self.words

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Returns a page's blocks in their order, without directives of the generator."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        language, *words = match["info"].split() or [""]
        if not language.startswith("{"):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, language, tuple(words), match["text"]))
    return found
