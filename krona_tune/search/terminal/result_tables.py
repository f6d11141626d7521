"""Makes the final tables: each task's best adapter or finalists with its baselines, and tables over all tasks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from krona_tune.study.chosen_finalist import choose
from krona_tune.study.compared_methods import Average, Cell, MethodLine, averaged, compare_methods, left_out
from krona_tune.study.finals import Finalist, Finals
from krona_tune.study.formatting import (
    NOTHING,
    describe_adapter,
    format_bounds,
    format_percent,
    format_score,
    format_spread,
)
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.result import Half
from krona_tune.study.search_end import search_ends
from krona_tune.study.standings import SharedConfiguration, Standings, average_front
from krona_tune.study.verdicts import FINALS_NOTE, TIED, Verdicts, verdicts_of


def titled_table(
    title: str, facts: dict[str, TaskFacts], columns: Iterable[str], caption: str = "", *, words: int = 1
) -> Table:
    """Returns an empty table; the first columns, `words` of them, hold words, others numbers.

    Where it has too little room its cells have several lines: nothing is cut off.
    """
    table = Table(
        title=title + synthetic_mark(facts),
        title_justify="left",
        caption=caption or None,
        caption_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < words else "right", overflow="fold")
    return table


def synthetic_mark(facts: dict[str, TaskFacts]) -> str:
    """Returns what a table of synthetic numbers adds to its title; nothing for real data."""
    return " (synthetic data)" if any(fact.synthetic for fact in facts.values()) else ""


TOP = 5
"""How many shared configurations are shown."""


MOST_ACROSS = 4
"""The most tasks that stand side by side, a column each, where there are fewer methods than tasks."""


TRAINED = "Trained: share of the backbone's parameters, without the head, which numbers of parameters count."
"""Explains, below the table of methods, what a share counts."""


def methods_table(lines: tuple[MethodLine, ...], facts: dict[str, TaskFacts]) -> "FittingTable":
    """Makes the table of the methods' scores: a row for each, or of many tasks a row for each task."""
    halves = {cell.half for line in lines for cell in line.cells.values()}
    seen = "test scores" if "test" in halves else "validation scores"
    mixed = "v: a validation score, for want of finalists" if len(halves) > 1 else ""
    columns = ("method", "trained", *(fact.title for fact in facts.values()), "average")
    caption = "\n".join(filter(None, (TRAINED, mixed, _apart(facts, halves))))
    rows: list[tuple[str, ...]] = [columns]
    for line in lines:
        cells = [_cell(each, mark=len(halves) > 1) for each in (*map(line.cells.get, facts), line.average)]
        rows.append((escape(line.method), format_percent(line.trainable_percent), *cells))
    if len(facts) > max(len(lines), MOST_ACROSS):
        rows = list(zip(*rows, strict=True))
    table = titled_table(f"Methods, {seen}", facts, rows[0], caption)
    for row in rows[1:]:
        table.add_row(*row)
    return FittingTable(table)


def shared_table(shared: Sequence[SharedConfiguration], facts: dict[str, TaskFacts]) -> Table:
    """Makes the table of configurations that all tasks share, the best average first."""
    columns = ("number", "average", *(fact.title for fact in facts.values()), "parameters")
    table = titled_table("One configuration for all tasks, validation scores", facts, columns, words=0)
    table.add_column("adapter", overflow="fold")
    for each in shared[:TOP]:
        scores = [format_score(each.rows[task].score) for task in facts]
        table.add_row(
            str(each.number),
            format_score(each.average),
            *scores,
            f"{each.parameters:,}",
            escape(describe_adapter(each.row.params)),
        )
    return table


def fronts_table(standings: Standings, facts: dict[str, TaskFacts]) -> Table:
    """Makes the table of each task's trials that no smaller one beats, and of the average's front below."""
    title = "Score against parameters: what no smaller adapter beats, validation scores"
    table = titled_table(title, facts, ("task", "trial", "score", "parameters"), _apart(facts, ["validation"]), words=2)
    table.add_column("adapter", overflow="fold")
    fronts = {task: standings.front(task) for task in facts}
    for task, front in fronts.items():
        for place, row in enumerate(front):
            cells = (
                escape(row.trial_id),
                format_score(row.score),
                f"{row.trainable_parameters:,}",
                escape(describe_adapter(row.params)),
            )
            table.add_row("" if place else facts[task].title, *cells)
    together = averaged(facts, "validation")
    average = average_front([[row.point for row in fronts[task]] for task in together])
    for place, (size, score) in enumerate(average if len(together) > 1 else ()):
        head, tail = ("", "") if place else ("average", "of each task's best with at most so many")
        table.add_row(head, "", format_score(score), f"{size:,}", tail)
    return table


def _apart(facts: dict[str, TaskFacts], halves: Iterable[Half]) -> str:
    """Says which tasks an average leaves out; nothing if none."""
    titles = ", ".join(facts[task].title for task in left_out(facts, halves))
    return f"The average is without {titles}: no mean with other scores." if titles else ""


def _cell(cell: Cell | Average | None, *, mark: bool) -> str:
    if cell is None:
        return NOTHING
    return (format_spread(cell) if isinstance(cell, Cell) else format_score(cell.score)) + (
        " v" if mark and cell.half == "validation" else ""
    )


FINALS_CAPTION = (
    f"Chosen on validation, evaluated on test once. {FINALS_NOTE} The constant answer's score is on validation."
)

NAME_WIDTHS = {"task": 12, "finalist": 18}
"""The greatest width of a column of names; a longer one is written in several lines."""
WHOLE = {*NAME_WIDTHS, "constant", "parameters"}
"""The columns that never wrap."""
LEAST_WIDTH = 6
"""The least width of a column of scores, which wrap in a narrow terminal."""
PADDING = 2
"""The blanks beside a column of a table."""


def build_result_tables(standings: Standings, facts: dict[str, TaskFacts], search: SearchSpec) -> Group:
    """Returns the study's results: the finalists if there are any, else the best of the search; then the methods.

    Of a pareto `search` it adds score against parameters, of each task and of the average; of one that ended by itself,
    what that saved.
    """
    ends = search_ends(search, list(standings.rows), {task: fact.title for task, fact in facts.items()})
    finals = {task: standings.finals(task, fact) for task, fact in facts.items()}
    verdicts = {task: verdicts_of(standings, task, each) for task, each in finals.items()}
    facts = {task: fact.model_copy(update={"title": escape(fact.title)}) for task, fact in facts.items()}
    tables: list[RenderableType] = [
        *(Text(each.headline, style="bold yellow") for each in verdicts.values() if each.headline),
        _search_table(standings, facts, verdicts),
    ]
    if any(each.winner for each in finals.values()):
        table = FittingTable(_finals_table(standings, finals, facts, verdicts))
        tables[-1:] = [table, _caption(facts), _legend(finals.values())]
    tables += [Text(text) for text in (*ends, *(text for each in verdicts.values() for text in each.others))]
    if lines := compare_methods(standings.rows, facts, standings.shared_by):
        tables.append(methods_table(lines, facts))
    if shared := standings.shared:
        tables.append(shared_table(shared, facts))
    if search.pareto:
        tables.append(fronts_table(standings, facts))
    return Group(*tables)


def _good(verdicts: Verdicts) -> str:
    """Returns the colour of a winner's scores, which is green only if they are above the constant answer's."""
    return "default" if verdicts.headline else "green"


def _search_table(standings: Standings, facts: dict[str, TaskFacts], verdicts: Mapping[str, Verdicts]) -> Table:
    columns = ("task", "score", "head only", "constant", "parameters")
    table = titled_table("Best adapter of each task, validation scores", facts, columns)
    table.add_column("adapter", overflow="fold")
    for task, fact in facts.items():
        best, head = standings.best(task), standings.baseline(task)
        beside = (format_score(head.score if head else None), format_score(fact.constant_score))
        if best is None or best.score is None:
            table.add_row(fact.title, "no result", *beside)
            continue
        table.add_row(
            fact.title,
            f"[{_good(verdicts[task])}]{format_score(best.score)}[/]",
            *beside,
            f"{best.trainable_parameters:,}",
            escape(describe_adapter(best.params)),
        )
    return table


def _caption(facts: dict[str, TaskFacts]) -> Text:
    """Returns what is below the finalists' table; in a narrow terminal it is whole where the table is not."""
    by_loss = [task for task, fact in facts.items() if fact.compared_by_loss]
    said = f" On {', '.join(by_loss)} a validation score is the targets' loss, negated." if by_loss else ""
    return Text(FINALS_CAPTION + said, style="table.caption")


def _finals_table(
    standings: Standings, ranked: Mapping[str, Finals], facts: dict[str, TaskFacts], verdicts: Mapping[str, Verdicts]
) -> Table:
    table = titled_table("Finalists of each task", facts, ())
    for name in ("task", "finalist", "validation", "test", "head only\non test", "constant", "parameters"):
        left, whole = name in NAME_WIDTHS, name in WHOLE
        least = None if whole else LEAST_WIDTH
        table.add_column(name, justify="left" if left else "right", no_wrap=whole, overflow="fold", min_width=least)
    for task, fact in facts.items():
        title = _in_lines("task", Text.from_markup(fact.title).plain)
        finals, best = ranked[task], standings.best(task)
        choice = choose(finals) if finals.compares else None
        head = format_spread(finals.head_only.test if finals.head_only else None)
        head += "\nchosen" * bool(choice and choice.finalist is finals.head_only)
        beside = (head, format_score(fact.constant_score))
        if finals.winner is None:
            found = (
                (_in_lines("finalist", best.trial_id), f"{format_score(best.score)} (search)")
                if best
                else ("no result", "")
            )
            table.add_row(title, *found, "", *beside)
        for each in finals.finalists:
            marks = "\ndefault" * (each is finals.default) + "\nchosen" * bool(choice and each is choice.finalist)
            if each is finals.winner:
                table.add_row(title, *_finalist(each, marks, beside, style=_good(verdicts[task])))
            else:
                table.add_row(TIED if each.tied else "", *_finalist(each, marks, ("", ""), style="default"))
    return table


@dataclass(frozen=True)
class FittingTable:
    """Draws a table; where its words do not fit beside each other, draws a line for each cell, row after row."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for table in (self.table, _with_deviations_below(self.table)):
            widths = list(map(_least_width, table.columns))
            if sum(widths) + PADDING * len(widths) <= options.max_width:
                yield _of_least_widths(table, widths)
                return
        if self.table.title:
            yield Text(str(self.table.title), style="table.title")
        names = [" ".join(str(column.header).split()) for column in self.table.columns]
        for cells in zip(*(column.cells for column in self.table.columns), strict=True):
            row = Table(box=None, show_header=False, pad_edge=False)
            row.add_column(style="dim", overflow="fold")
            row.add_column(overflow="fold")
            for name, cell in zip(names, cells, strict=True):
                if str(cell):
                    row.add_row(name, cell)
            yield row
            yield Text()


def _with_deviations_below(table: Table) -> Table:
    """Returns a table whose cells have each deviation in a line of its own."""
    narrow = copy(table)
    narrow.columns = [
        replace(column, _cells=[cell.replace("±", "\n±") if isinstance(cell, str) else cell for cell in column.cells])
        for column in table.columns
    ]
    return narrow


def _of_least_widths(table: Table, widths: Sequence[int]) -> Table:
    """Returns a table whose columns are at least so wide, so that no number is divided."""
    wide = copy(table)
    wide.columns = [replace(column, min_width=width) for column, width in zip(table.columns, widths, strict=True)]
    return wide


def _least_width(column: Column) -> int:
    """Returns the least width of a column: that of its longest word, or line, if it does not wrap."""
    texts = [cell if isinstance(cell, Text) else Text.from_markup(str(cell)) for cell in (column.header, *column.cells)]
    lines = [line for text in texts for line in text.plain.splitlines()]
    words = lines if column.no_wrap else [word for line in lines for word in line.split()]
    return max(column.min_width or 0, *map(cell_len, words), 0)


def _in_lines(column: str, name: str) -> Text:
    """Returns a name in lines that fit its column."""
    width = NAME_WIDTHS[column]
    return Text("\n".join(name[start : start + width] for start in range(0, len(name), width)))


def _finalist(each: Finalist, marks: str, beside: tuple[str, str], *, style: str) -> tuple[RenderableType, ...]:
    within = "\n\\[{}, {}]".format(*format_bounds(each.test.interval)) if each.test.interval else ""
    return (
        _in_lines("finalist", each.of).append(marks),
        f"[{style}]{format_spread(each.validation)}[/{style}]",
        f"[{style}]{format_spread(each.test)}[/{style}]{within}",
        *beside,
        f"{each.rows[0].trainable_parameters:,}",
    )


def _legend(ranked: Iterable[Finals]) -> Text:
    """Returns the configuration of each finalist."""
    everyone = [each for finals in ranked for each in finals.finalists]
    return Text("\n".join(f"{each.of}: {describe_adapter(each.params)}" for each in everyone))
