"""Reads which flags a command has."""

import typer


def options_of(verb: object) -> set[str]:
    """Returns the flags of a command, both sides of two-sided ones."""
    program = typer.Typer(add_completion=False)
    program.command()(verb)  # type: ignore[type-var]
    command = typer.main.get_command(program)
    return {each for option in command.params for each in (*option.opts, *option.secondary_opts) if "-" in each}
