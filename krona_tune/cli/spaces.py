"""The commands about the search spaces that krona_tune ships: spaces, space."""

from typing import Annotated

import typer

from krona_tune.api.printing import console
from krona_tune.api.shipped_spaces import question, space_names, space_text


def spaces() -> None:
    """List the shipped search spaces and what each asks."""
    names = space_names()
    for name in names:
        asked = question(space_text(name))
        console.print(f"{name:<{max(map(len, names))}}  {asked}", highlight=False, markup=False, soft_wrap=True)


def space(name: Annotated[str, typer.Argument(help="A name that `krona-tune spaces` lists.")]) -> None:
    """Print a shipped search space, to be kept and changed: krona-tune space shapes > mine.yaml."""
    typer.echo(space_text(name), nl=False)
