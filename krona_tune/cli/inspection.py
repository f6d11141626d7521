"""Defines the commands that run no study: list, show, watch, compare, report, check, inspect, spaces, space, doctor."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Unpack

import typer

from krona_tune.api.asked_request import AskedRequest
from krona_tune.api.chosen_space import derived_for, written_space
from krona_tune.api.folders import study_folder
from krona_tune.api.plan_printing import print_plan, print_warnings
from krona_tune.api.plan_view import data_doubts
from krona_tune.api.printing import console, say
from krona_tune.api.shipped_spaces import find_space, question, space_names, space_text
from krona_tune.api.study_request import spec_of
from krona_tune.cli import options
from krona_tune.hub import home
from krona_tune.record.storage import storage_at
from krona_tune.refusal import Refusal
from krona_tune.refused_calls import naming_fields
from krona_tune.study.request.given_values import naming_given
from krona_tune.study.request.loader import AUTO
from krona_tune.study.settings import Keywords


def doctor() -> None:
    """Say what is installed, what this machine offers and what is wrong, for you and for a report of a problem."""
    from krona_tune.api.diagnosis import diagnose

    found = diagnose()
    for section, facts in found.sections.items():
        say(section)
        _print_facts(facts or {"none": ""})
    for kind, cases in (("warning", found.warnings), ("problem", found.problems)):
        for each in cases:
            say(f"{kind}: {each}")
    say("A study can't run here." if found.problems else "A study can run here.")
    if found.problems:
        raise typer.Exit(1)


def _print_facts(facts: Mapping[str, str]) -> None:
    widest = max(map(len, facts))
    for name, fact in facts.items():
        say(f"  {name:<{widest}}  {fact}".rstrip())


def spaces() -> None:
    """List the shipped search spaces and what each asks."""
    names = space_names()
    for name in names:
        say(f"{name:<{max(map(len, names))}}  {question(space_text(name))}")


@options.with_settings
def space(
    name: Annotated[
        str, typer.Argument(help="A name that `krona-tune spaces` lists; auto: one made for your request.")
    ],
    tasks: options.Tasks = None,
    model: options.Model = None,
    settings: options.Settings = None,
    *,
    storage: options.Storage = options.STUDIES,
    **keywords: Unpack[Keywords],
) -> None:
    """Print a search space, to be kept and changed: krona-tune space auto --tasks mine.yaml > space.yaml."""
    asked = AskedRequest.of(tasks=tasks, model=model, settings=settings, keywords=keywords)
    values = asked.with_earlier(storage_at(storage)).given
    if name != AUTO:
        if values:
            raise Refusal(values[0].by, f"the space {name} is printed as it is", f"leave it out, or write {AUTO}")
        typer.echo(space_text(name), nl=False)
        return
    from krona_tune.search.startup.slots import this_machine

    typer.echo(written_space(derived_for(this_machine(), values), values), nl=False)


def list_studies(storage: options.Storage = options.STUDIES) -> None:
    """List the studies of a storage, the newest last."""
    from krona_tune.search.terminal.inspect_studies import studies_in

    console.print(studies_in(storage_at(storage)))


def show(study: options.Study, storage: options.Storage = options.STUDIES) -> None:
    """Show what a study has found so far."""
    from krona_tune.search.terminal import inspect_studies

    inspect_studies.show(study_folder(storage_at(storage), study), console)


def watch(study: options.Study, storage: options.Storage = options.STUDIES) -> None:
    """Watch a running study from another terminal, until it ends or Ctrl-C."""
    from krona_tune.search.terminal import inspect_studies

    inspect_studies.watch(study_folder(storage_at(storage), study), console)


class TableForm(StrEnum):
    """A form in which a comparison is printed."""

    TABLE = "table"
    LATEX = "latex"
    CSV = "csv"


def compare(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Two studies or more, by name or folder.")],
    storage: options.Storage = options.STUDIES,
    form: Annotated[
        TableForm, typer.Option("--format", help="table: to read; latex: for a paper; csv: every column.")
    ] = TableForm.TABLE,
) -> None:
    """Compare studies task by task: the winners, which differences are more than chance, which knobs differ."""
    from krona_tune.api.comparison_tables import comparison_csv, comparison_latex
    from krona_tune.api.study_comparison import compared, tables_of

    found = compared(studies, storage)
    match form:
        case TableForm.TABLE:
            console.print(tables_of(found))
        case TableForm.LATEX:
            typer.echo(comparison_latex(found), nl=False)
        case TableForm.CSV:
            typer.echo(comparison_csv(found), nl=False)


def report(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY...", help="A study's name or folder; several are compared.")
    ],
    storage: options.Storage = options.STUDIES,
    to: Annotated[Path | None, typer.Option("--to", help="The file to write a comparison to.")] = None,
) -> None:
    """Write a study's page again from its records, or a page that compares several studies."""
    from krona_tune.record.ownership import is_running
    from krona_tune.report.comparison_page import write_comparison
    from krona_tune.report.study_page import write_report

    place = storage_at(storage)
    folders = [study_folder(place, study) for study in studies]
    if to is None and len(folders) == 1:
        page = write_report(folders[0], runs=is_running(folders[0]))
    else:
        page = write_comparison(folders, home(to, "--to") if to else place.folder / "comparison.html")
    say(str(page))


def inspect(
    model: Annotated[str, typer.Argument(help="A model's name on the hub, or a local folder.")],
    target_modules: Annotated[
        list[str] | None,
        typer.Option("--target-modules", help="A map's name or its end, or all-linear, as in peft. May be repeated."),
    ] = None,
) -> None:
    """Say what a model offers: layers, maps and their roles, what is left out and why, memory, methods that fit."""
    from krona_tune.api.model_view import model_lines
    from krona_tune.study.request.study_spec import ALL_LINEAR, BackboneSpec
    from krona_tune.train.backbone_source import find_backbone

    maps = ALL_LINEAR if target_modules == [ALL_LINEAR] else tuple(target_modules or ()) or None
    named = BackboneSpec(target_modules=maps)
    with naming_fields({"--model": "MODEL"}):
        found = find_backbone(model, named.corrections)
    for name, text in model_lines(found):
        say(f"  {name:<8} {text}")


def check(space: options.Space, settings: options.Settings = None, model: options.Model = None) -> None:
    """Check a search space and print what it searches; start nothing."""
    place = find_space(space, "SPACE")
    given = AskedRequest.of(model=model, settings=settings, keywords={}).given
    spec = spec_of(place, given).settled()
    from krona_tune.search.planning.plan import make_plan

    with naming_given(place, given):
        plan = make_plan(spec, str(place))
        print_plan(plan, "")
        print_warnings(data_doubts(plan))
