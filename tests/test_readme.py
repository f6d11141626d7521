"""Tests that the README is short, and that CONTRIBUTING's tree shows what exists; `tests/docs` tests what they name."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LONGEST = 90
"""The most lines of the README, a screen and a half; everything else stands in docs/."""
EXPECTED_AT_THE_TOP = {
    "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "MANIFEST.in", "Makefile",
    "pyproject.toml", "setup.py", ".gitignore", ".pre-commit-config.yaml", ".ci", ".github", "Dockerfile",
    ".dockerignore",
}  # fmt: skip


def tree() -> dict[str, str]:
    """Returns the paths in CONTRIBUTING's tree, with their descriptions."""
    block = CONTRIBUTING.split("## The tree")[1].split("```")[1].removeprefix("text\n")
    paths, folder = {}, ""
    for line in block.splitlines():
        found = re.match(r"( *)(\S+) *(.*)", line)
        if found:
            indent, name, words = found.groups()
            folder = "" if not indent else folder
            paths[folder + name] = words
            folder = name if not indent and name.endswith("/") else folder
    return paths


def test_the_readme_is_a_screen_and_a_half() -> None:
    assert len(README.splitlines()) <= LONGEST


def test_every_path_of_the_tree_exists() -> None:
    assert len(tree()) > 10
    assert not [path for path in tree() if not (ROOT / path).exists()]


def test_every_package_stands_in_the_tree() -> None:
    packages = {
        f"krona_tune/{path.name}/" for path in (ROOT / "krona_tune").iterdir() if (path / "__init__.py").exists()
    }
    assert packages <= set(tree())


def test_the_top_level_holds_what_the_tree_says_and_no_more() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {path.split("/")[0] for path in listed.stdout.splitlines()}
    shown = {path.split("/")[0] for path in tree()}
    assert top - shown == EXPECTED_AT_THE_TOP


def test_the_two_commands_are_makes_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", README, flags=re.MULTILINE)
    assert targets == ["study", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
