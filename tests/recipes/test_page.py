"""Tests that the page of recipes names every recipe, and that its links and commands are right."""

import re
import shlex
from pathlib import Path

import typer

from krona_tune.cli import app

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "recipes"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_recipe_is_linked_and_every_link_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]
    assert all((FOLDER / link).is_file() for link in links)
    assert {path.name for path in FOLDER.iterdir()} - {"README.md"} <= set(links)


def test_the_program_takes_the_commands_of_the_containers() -> None:
    dockerfile = (FOLDER.parents[1] / "Dockerfile").read_text(encoding="utf-8")
    commands = re.findall(r"krona_tune:(?:cpu|cuda) (run .*)", PAGE + dockerfile)
    assert len(commands) == 3
    group = typer.main.get_command(app)
    for command in commands:
        _, verb, rest = group.resolve_command(typer.Context(group), shlex.split(command))  # type: ignore[attr-defined]
        assert verb.make_context("run", rest).params["tasks"] == "glue"


def test_the_page_says_what_was_never_built_or_run() -> None:
    assert re.search(r"Dockerfile.*never built", PAGE)
    assert re.search(r"sbatch.*never on a real Slurm", PAGE)
