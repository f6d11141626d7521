"""The commands that only read: list, show, watch, spaces, space, doctor."""

from collections.abc import Mapping
from typing import Annotated

import typer

from krona_tune.api.folders import study_folder
from krona_tune.api.inputs import question, space_names, space_text
from krona_tune.api.printing import console
from krona_tune.cli import options
from krona_tune.record.storage import storage_at


def doctor() -> None:
    """Say what is installed, what this machine offers and what is wrong, for you and for a report of a problem."""
    from krona_tune.api.diagnosis import diagnose

    found = diagnose()
    for section, facts in found.sections.items():
        _print(section)
        _print_facts(facts or {"none": ""})
    for kind, cases in (("warning", found.warnings), ("problem", found.problems)):
        for each in cases:
            _print(f"{kind}: {each}")
    _print("A study can't run here." if found.problems else "A study can run here.")
    if found.problems:
        raise typer.Exit(1)


def _print_facts(facts: Mapping[str, str]) -> None:
    widest = max(map(len, facts))
    for name, fact in facts.items():
        _print(f"  {name:<{widest}}  {fact}".rstrip())


def _print(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def spaces() -> None:
    """List the shipped search spaces and what each asks."""
    names = space_names()
    for name in names:
        asked = question(space_text(name))
        console.print(f"{name:<{max(map(len, names))}}  {asked}", highlight=False, markup=False, soft_wrap=True)


def space(name: Annotated[str, typer.Argument(help="A name that `krona-tune spaces` lists.")]) -> None:
    """Print a shipped search space, to be kept and changed: krona-tune space shapes > mine.yaml."""
    typer.echo(space_text(name), nl=False)


Study = Annotated[str, typer.Argument(help="A study's name or folder.")]


def list_studies(storage: options.Storage = options.STUDIES) -> None:
    """List the studies of a storage, the newest last."""
    from krona_tune.search.terminal.inspect_studies import studies_in

    console.print(studies_in(storage_at(storage)))


def show(study: Study, storage: options.Storage = options.STUDIES) -> None:
    """Show what a study has found so far."""
    from krona_tune.search.terminal import inspect_studies

    inspect_studies.show(study_folder(storage_at(storage), study), console)


def watch(study: Study, storage: options.Storage = options.STUDIES) -> None:
    """Watch a running study from another terminal, until it ends or Ctrl-C."""
    from krona_tune.search.terminal import inspect_studies

    inspect_studies.watch(study_folder(storage_at(storage), study), console)
