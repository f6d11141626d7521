"""Makes the tables over all tasks: the methods, shared configurations, score against parameters."""

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from krona_tune.search.terminal.titled_table import titled_table
from krona_tune.study.compared_values import Average, Cell, MethodLine, averaged, left_out
from krona_tune.study.formatting import NOTHING, describe_adapter, format_percent, format_score, format_spread
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.result import Half
from krona_tune.study.standings import SharedConfiguration, Standings, average_front

TOP = 5
"""How many shared configurations are shown."""


def methods_table(lines: tuple[MethodLine, ...], facts: dict[str, TaskFacts]) -> Table:
    halves = {cell.half for line in lines for cell in line.cells.values()}
    seen = "test scores" if "test" in halves else "validation scores"
    mixed = "v: a validation score, for want of finalists" if len(halves) > 1 else ""
    table = titled_table(f"Methods, {seen}", facts, "\n".join(filter(None, (mixed, _apart(facts, halves)))))
    table.add_column("method", no_wrap=True)
    for name in ("trained", *(fact.title for fact in facts.values()), "average"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        cells = [_cell(each, mark=len(halves) > 1) for each in (*map(line.cells.get, facts), line.average)]
        table.add_row(escape(line.method), format_percent(line.trainable_percent), *cells)
    return table


def shared_table(shared: Sequence[SharedConfiguration], facts: dict[str, TaskFacts]) -> Table:
    table = titled_table("One configuration for all tasks, validation scores", facts)
    for name in ("number", "average", *(fact.title for fact in facts.values()), "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("adapter")
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
    title = "Score against parameters: what no smaller adapter beats, validation scores"
    table = titled_table(title, facts, _apart(facts, ["validation"]))
    for name in ("task", "trial", "score", "parameters"):
        table.add_column(name, justify="left" if name in {"task", "trial"} else "right", no_wrap=True)
    table.add_column("adapter")
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
