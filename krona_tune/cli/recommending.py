"""Defines the commands for what trainings of others teach: recommend, contribute."""

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Unpack

import typer

from krona_tune.api.asked_request import AskedRequest
from krona_tune.api.exit_status import ExitStatus
from krona_tune.api.folders import study_folder, with_whole_paths
from krona_tune.api.printing import errors, print_lines, say
from krona_tune.cli import options
from krona_tune.hub import home
from krona_tune.record.storage import storage_at
from krona_tune.refusal import Refusal
from krona_tune.study.formatting import format_many
from krona_tune.study.request.given_values import naming_given
from krona_tune.study.request.search_spec import CURVE_FILE
from krona_tune.study.settings import Keywords

FORM = "--format"
NAME = "recommended"
"""The file that the printed command makes, and the study that a recommendation is of."""


class AnswerForm(StrEnum):
    """A form in which a recommendation is printed."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


@options.with_settings
def recommend(
    tasks: options.Tasks = None,
    space: options.SpaceFile = None,
    settings: options.Settings = None,
    model: options.Model = None,
    *,
    storage: options.Storage = options.STUDIES,
    form: Annotated[
        AnswerForm,
        typer.Option(FORM, help="text: to read; json: all of it; yaml: the space that trains it, for run."),
    ] = AnswerForm.TEXT,
    probe: Annotated[
        bool, typer.Option("--probe", help="Train it for a third of its steps first, and foretell its score from that.")
    ] = False,
    **keywords: Unpack[Keywords],
) -> None:
    """Say which configuration to use without any search, and which score to expect of it."""
    if probe and form is AnswerForm.YAML:
        raise Refusal("--probe", "the space that --format yaml prints holds no score", "leave one of the two out")
    asked = AskedRequest.of(space=space, tasks=tasks, model=model, settings=settings, keywords=keywords)
    asked = asked.with_earlier(storage_at(storage))
    chosen = asked.chosen(dry_run=True)
    spec = asked.spec(chosen, NAME)
    from krona_tune.api.recommendation_view import RecommendationView
    from krona_tune.search.planning.plan import make_plan
    from krona_tune.search.planning.recommendation import may_foretell, recommend_point
    from krona_tune.search.startup.slots import slots, this_machine

    with naming_given(chosen.place, asked.given):
        here = slots(this_machine(), spec.resources)
        found = recommend_point(make_plan(with_whole_paths(spec), str(chosen.place)))
        view = RecommendationView(found, here)
        if probe:
            view = view.probed(lambda word: say(word, to=errors))
    match form:
        case AnswerForm.JSON:
            typer.echo(json.dumps(view.plain, indent=2))
        case AnswerForm.YAML:
            typer.echo(view.yaml, nl=False)
        case AnswerForm.TEXT:
            words = shlex.join(_without_form(sys.argv[1:]))
            again = f"krona-tune {words} --format yaml"
            lines = view.lines
            if may_foretell(view.found):
                lines["probe"] = f"krona-tune {words} --probe trains a third of it, which may foretell the score"
            where = storage_at(storage).study(NAME).storage_flag
            train = f"{again} > {NAME}.yaml && krona-tune run --space {NAME}.yaml{where}"
            print_lines({**lines, "train": train})
    if probe and all(answer.probe and answer.probe.error for answer in view.found.answers):
        raise typer.Exit(ExitStatus.NO_RESULT)


def _without_form(words: Sequence[str]) -> Iterator[str]:
    """Yields a command's words without its probe and the form of its answer."""
    before = ""
    for word in words:
        if word not in {"--probe", FORM} and before != FORM and not word.startswith(f"{FORM}="):
            yield word
        before = word


def contribute(
    study: options.Study,
    out: Annotated[Path | None, typer.Option("--output", "--out", help="The new file, which ends in .parquet.")] = None,
    storage: options.Storage = options.STUDIES,
) -> None:
    """Write a finished study's learning curves as one file, from which others learn with --warm-start."""
    from krona_tune.api.contribution import contribute as write

    folder = study_folder(storage_at(storage), study)
    path = home(out, "--output") if out else Path(f"{folder.name}{CURVE_FILE}")
    left = write(folder, path)
    say(f"{path}: {left.reports} reports of {left.trials} trials of {left.points} points")
    if left.left_out:
        why = "such as those of another method than krona, of a point again, or with a knob without a column"
        say(f"left out: {format_many(left.left_out, 'trial')}, {why}")
