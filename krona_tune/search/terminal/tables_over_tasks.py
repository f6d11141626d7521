"""Tables over all tasks together: the methods, one configuration for all, score against parameters."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from krona_tune.study.compared_values import Average, Cell, MethodLine
from krona_tune.study.formatting import in_words, score_of, spread, titled
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.pareto import average_front
from krona_tune.study.shared_configurations import SharedConfiguration
from krona_tune.study.standings import Standings

TOP = 5
"""How many configurations for all tasks are shown."""


def methods_table(lines: tuple[MethodLine, ...], facts: dict[str, TaskFacts]) -> Table:
    halves = {cell.half for line in lines for cell in line.cells.values()}
    seen = "test scores" if "test" in halves else "validation scores"
    mixed = "v: a validation score, for want of finalists" if len(halves) > 1 else ""
    table = titled(f"Methods, {seen}", facts, mixed)
    table.add_column("method", no_wrap=True)
    for name in ("trained", *(fact.title for fact in facts.values()), "average"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        percent = "" if line.trainable_percent is None else f"{line.trainable_percent:.3g} %"
        cells = [_cell(each, mark=len(halves) > 1) for each in (*map(line.cells.get, facts), line.average)]
        table.add_row(escape(line.method), percent, *cells)
    return table


def shared_table(shared: Sequence[SharedConfiguration], facts: dict[str, TaskFacts]) -> Table:
    table = titled("One configuration for all tasks, validation scores", facts)
    for name in ("number", "average", *(fact.title for fact in facts.values()), "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("adapter")
    for each in shared[:TOP]:
        scores = [score_of(each.rows[task].score) for task in facts]
        table.add_row(
            str(each.number), score_of(each.average), *scores, f"{each.parameters:,}", escape(in_words(each.row.params))
        )
    return table


def fronts_table(standings: Standings, facts: dict[str, TaskFacts]) -> Table:
    table = titled("Score against parameters: what no smaller adapter beats, validation scores", facts)
    for name in ("task", "trial", "score", "parameters"):
        table.add_column(name, justify="left" if name in {"task", "trial"} else "right", no_wrap=True)
    table.add_column("adapter")
    fronts = {task: standings.front(task) for task in facts}
    for task, front in fronts.items():
        for place, row in enumerate(front):
            cells = (
                escape(row.trial_id),
                score_of(row.score),
                f"{row.trainable_parameters:,}",
                escape(in_words(row.params)),
            )
            table.add_row("" if place else facts[task].title, *cells)
    average = average_front([[row.point for row in front] for front in fronts.values()])
    for place, (size, score) in enumerate(average if len(facts) > 1 else ()):
        head, tail = ("", "") if place else ("average", "of each task's best with at most so many")
        table.add_row(head, "", score_of(score), f"{size:,}", tail)
    return table


def _cell(cell: Cell | Average | None, *, mark: bool) -> str:
    if cell is None:
        return "–"
    shown = spread(cell) if isinstance(cell, Cell) else f"{cell.score:.3f}"
    return shown + (" v" if mark and cell.half == "validation" else "")
