"""The command that examines an installation: doctor."""

from collections.abc import Mapping

import typer

from krona_tune.api.printing import console


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
