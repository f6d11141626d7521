"""Tests that the README shows what exists."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXPECTED_AT_THE_TOP = {
    "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "MANIFEST.in", "Makefile",
    "pyproject.toml", "setup.py", ".gitignore", ".pre-commit-config.yaml", ".ci", ".github", "Dockerfile",
    ".dockerignore",
}  # fmt: skip


def tree() -> dict[str, str]:
    """Returns the paths in the README's tree, with their descriptions."""
    block = README.split("## The tree")[1].split("```")[1].removeprefix("text\n")
    paths, folder = {}, ""
    for line in block.splitlines():
        found = re.match(r"( *)(\S+) *(.*)", line)
        if found:
            indent, name, words = found.groups()
            folder = "" if not indent else folder
            paths[folder + name] = words
            folder = name if not indent and name.endswith("/") else folder
    return paths


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
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_flag_that_the_readme_names_is_one() -> None:
    from krona_tune.cli import app

    verbs = [verb.callback for verb in app.registered_commands if verb.callback]
    annotations = {name: annotation for verb in verbs for name, annotation in verb.__annotations__.items()}
    declared = {
        declaration
        for verb in verbs
        for annotation in verb.__annotations__.values()
        for option in getattr(annotation, "__metadata__", ())
        for declaration in (option.default, *(option.param_decls or ()))
    }
    declared |= {f"--{name.replace('_', '-')}" for name in annotations}
    assert set(re.findall(r"`(--[a-z-]+)", README)) <= declared


def test_every_space_that_the_readme_names_is_there() -> None:
    named = set(re.findall(r"search_spaces/\w+\.yaml", README))
    assert named
    assert all((ROOT / path).exists() for path in named)
