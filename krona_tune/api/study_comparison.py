"""Compares studies for a Python session, as a frame, and for a terminal, as tables and sentences."""

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from krona_tune.api.comparison_tables import comparison_frame
from krona_tune.api.folders import study_folder
from krona_tune.record.storage import storage_at
from krona_tune.refusal import cut
from krona_tune.refused_calls import refusing_at_the_caller
from krona_tune.report.comparison import COMPARED_NOTE, ComparedWinner, Comparison, read_comparison
from krona_tune.report.knobs import knobs_of
from krona_tune.search.terminal.result_tables import FittingTable, titled_table
from krona_tune.study.folder import STUDIES
from krona_tune.study.formatting import (
    NOTHING,
    format_bounds,
    format_count,
    format_gain,
    format_name,
    format_score,
    format_spread,
)
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.verdicts import TIED

if TYPE_CHECKING:
    import pandas as pd


@refusing_at_the_caller
def compare(studies: Sequence[str | PathLike[str]], storage: str | PathLike[str] = STUDIES) -> "pd.DataFrame":
    """Compares studies task by task: one row per task and study, in the order in which they are named.

    Columns: `task`, `study`, `winner` (the searched trial), `half` (`test`, or `validation` without finals), `score`
    (of the finals' winner, a mean over seeds; else the best of the search), `deviation` over seeds, `low` and `high`
    of its 95 % interval, `seeds` that learned, `head_only` on the same half, `constant` on validation, trainable
    `parameters`, `synthetic`, and the winner's knobs under their own names.

    The first study with finals on a task is the `reference` of the others' rows: `difference` is their score on test
    less its own, over the seeds that both have if those are two or more; `difference_low` and `difference_high` are its
    95 % interval over seeds and test examples, for as many comparisons as the task has; `apart` says whether it is more
    than chance gives (None: that can't be decided), `pairing` how they were paired, and `verdict` all that in words.

    Args:
        studies: two studies or more: names, or folders such as `studies/NAME`.
        storage: the folder or URI where studies of these names are kept.

    Raises:
        Refusal: fewer than two different studies are named, or one of them does not exist or holds no trial.
    """
    return comparison_frame(compared([str(each) for each in studies], str(storage)))


def compared(studies: Sequence[str], storage: str) -> Comparison:
    """Reads and compares studies by their names or folders. Raises what `compare` raises."""
    place = storage_at(storage)
    return read_comparison([study_folder(place, each) for each in studies])


def tables_of(comparison: Comparison) -> Group:
    """Returns a comparison as tables and sentences for a terminal."""
    return Group(*_tables(comparison))


def _tables(comparison: Comparison) -> Iterator[RenderableType]:
    facts = _facts(comparison)
    yield from (Text(text, style="yellow") for text in comparison.doubts)
    yield _scores(comparison, facts)
    yield from (Text(text) for each in comparison.tasks for text in each.verdicts)
    if any(each.knobs.differing for each in comparison.tasks):
        yield _knobs(comparison, facts)
    if different := comparison.differences:
        table = titled_table(
            "Where the requests differ", {}, ("key", *(escape(study.name) for study in comparison.studies)), words=100
        )
        for key, values in different.items():
            table.add_row(escape(key), *(escape(cut(value)) for value in values))
        yield table


def _facts(comparison: Comparison) -> dict[str, TaskFacts]:
    found = {each.task: entry.summary.facts for each in comparison.tasks for entry in each.entries}
    return {task: facts for task, facts in found.items() if facts}


def _scores(comparison: Comparison, facts: dict[str, TaskFacts]) -> RenderableType:
    columns = ("task", "study", "score", "difference", "head only", "constant", "parameters")
    table = titled_table("The winners of each task", facts, columns, COMPARED_NOTE, words=2)
    for each in comparison.tasks:
        for place, entry in enumerate(each.entries):
            table.add_row("" if place else escape(each.title), escape(entry.study.name), *_numbers(entry))
    if len(comparison.common) > 1:
        for place, study in enumerate(comparison.studies):
            final, best = study.final_average(comparison.common), study.average(comparison.common)
            score = format_score(final.test) if final else f"{format_score(best.best if best else None)} v"
            head = final.head_only if final else best.baseline if best else None
            table.add_row("" if place else "average", escape(study.name), score, "", format_score(head), "", "")
    return FittingTable(table)


def _numbers(entry: ComparedWinner) -> list[str]:
    mark = " v" if entry.half == "validation" else ""
    interval = entry.score.interval if entry.score else None
    within = "\n\\[{}, {}]".format(*format_bounds(interval)) if interval else ""
    around = "\n\\[{}, {}]".format(*map(format_gain, entry.gain_interval)) if entry.gain_interval else ""
    return [
        f"{format_spread(entry.score)}{mark}{within}",
        f"{TIED + ' ' if entry.tied else ''}{format_gain(entry.gain)}{around}",
        format_spread(entry.head_only),
        format_score(entry.summary.constant_score),
        format_count(entry.row.trainable_parameters) if entry.row else NOTHING,
    ]


def _knobs(comparison: Comparison, facts: dict[str, TaskFacts]) -> RenderableType:
    names = [study.name for study in comparison.studies]
    table = titled_table("The winners' knobs that differ", facts, ("task", "knob", *map(escape, names)), words=100)
    for each in comparison.tasks:
        own = {entry.study.name: knobs_of(entry.row) for entry in each.entries if entry.row}
        for place, knob in enumerate(each.knobs.differing):
            values = (own.get(name, {}).get(knob, NOTHING) for name in names)
            table.add_row("" if place else escape(each.title), format_name(knob), *map(escape, values))
    return table
