"""The end's tables: each task's best adapter beside its baselines, and the methods side by side."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from krona_tune.search.ledger import Ledger
from krona_tune.study.comparison import Average, Cell, MethodLine, compare
from krona_tune.study.finals import Finalist, Spread
from krona_tune.study.manifest import TaskFacts

TIED = "≈"
"""Marks what can't be told apart from the best."""

FINALS_CAPTION = (
    "Chosen on validation, looked at on test once: mean ± standard deviation over seeds, and the 95 % interval of the "
    f"mean over seeds and test examples. {TIED} can't be told apart from the first on test, seed by seed. The constant "
    "answer's score is on validation."
)

WHOLE = {"task", "finalist", "constant", "parameters"}
"""The columns that are never broken."""


def ranking(ledger: Ledger, facts: dict[str, TaskFacts]) -> Group:
    """What the study found: the finalists where there are some, else the best of the search; then the methods."""
    tables: list[RenderableType] = [_search_table(ledger, facts)]
    if any(ledger.finals(task).winner for task in facts):
        tables = [_finals_table(ledger, facts), _legend(ledger, facts)]
    if lines := compare(ledger.rows.values(), tuple(facts)):
        tables.append(_methods_table(lines, facts))
    return Group(*tables)


def _table(title: str, facts: dict[str, TaskFacts], caption: str = "") -> Table:
    marked = title + synthetic_mark(facts)
    return Table(
        title=marked,
        title_justify="left",
        caption=caption or None,
        caption_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )


def _search_table(ledger: Ledger, facts: dict[str, TaskFacts]) -> Table:
    table = _table("Best adapter of each task, validation scores", facts)
    for name in ("task", "score", "head only", "constant", "parameters"):
        table.add_column(name, justify="left" if name == "task" else "right", no_wrap=True)
    table.add_column("adapter")
    for task, fact in facts.items():
        best, head = ledger.best(task), ledger.baseline(task)
        if best is None or best.score is None:
            table.add_row(fact.title, "no result")
            continue
        table.add_row(
            fact.title,
            f"[green]{best.score:.3f}[/green]",
            _score(head),
            f"{fact.constant_score:.3f}",
            f"{best.trainable_parameters:,}",
            in_words(best.params),
        )
    return table


def _finals_table(ledger: Ledger, facts: dict[str, TaskFacts]) -> Table:
    table = _table("Finalists of each task", facts, FINALS_CAPTION)
    for name in ("task", "finalist", "validation", "test", "head only\non test", "constant", "parameters"):
        table.add_column(name, justify="left" if name in {"task", "finalist"} else "right", no_wrap=name in WHOLE)
    for task, fact in facts.items():
        finals, best = ledger.finals(task), ledger.best(task)
        if finals.winner is None:
            found = (best.trial_id, f"{_score(best.score)} (search)") if best else ("no result",)
            table.add_row(fact.title, *found)
        for each in finals.finalists:
            if each is finals.winner:
                head = "–" if finals.head_only is None else spread(finals.head_only.test)
                table.add_row(fact.title, *_finalist(each, (head, f"{fact.constant_score:.3f}"), style="green"))
            else:
                table.add_row(TIED if each.tied else "", *_finalist(each, ("", ""), style="default"))
    return table


def _finalist(each: Finalist, beside: tuple[str, str], *, style: str) -> tuple[str, ...]:
    within = "\n\\[{:.3f}, {:.3f}]".format(*each.test.interval) if each.test.interval else ""
    return (
        each.of,
        f"[{style}]{spread(each.validation)}[/{style}]",
        f"[{style}]{spread(each.test)}[/{style}]{within}",
        *beside,
        f"{each.rows[0].trainable_parameters:,}",
    )


def _legend(ledger: Ledger, facts: dict[str, TaskFacts]) -> Text:
    """Which configuration each finalist is."""
    everyone = [each for task in facts for each in ledger.finals(task).finalists]
    return Text("\n".join(f"{each.of}: {in_words(each.params)}" for each in everyone))


def _methods_table(lines: tuple[MethodLine, ...], facts: dict[str, TaskFacts]) -> Table:
    halves = {cell.half for line in lines for cell in line.cells.values()}
    seen = "test scores" if "test" in halves else "validation scores"
    mixed = "v: a validation score, for want of finalists" if len(halves) > 1 else ""
    table = _table(f"Methods, {seen}", facts, mixed)
    table.add_column("method", no_wrap=True)
    for name in ("trained", *(fact.title for fact in facts.values()), "average"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        percent = "" if line.trainable_percent is None else f"{line.trainable_percent:.3g} %"
        cells = [_cell(each, mark=len(halves) > 1) for each in (*map(line.cells.get, facts), line.average)]
        table.add_row(line.method, percent, *cells)
    return table


def _cell(cell: Cell | Average | None, *, mark: bool) -> str:
    if cell is None:
        return "–"
    shown = spread(cell) if isinstance(cell, Cell) else f"{cell.score:.3f}"
    return shown + (" v" if mark and cell.half == "validation" else "")


def spread(each: Spread | Cell) -> str:
    """A mean over seeds: 0.612±0.013, without the deviation of a single seed."""
    middle = each.score if isinstance(each, Cell) else each.mean
    return f"{middle:.3f}" + ("" if each.deviation is None else f"±{each.deviation:.3f}")


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def synthetic_mark(facts: dict[str, TaskFacts]) -> str:
    """What a table of synthetic numbers is headed with; nothing for real data."""
    return " (synthetic data)" if any(fact.synthetic for fact in facts.values()) else ""


def in_words(params: Mapping[str, Any]) -> str:
    """An adapter in a line: krona 16×24, scale 4, query+value, all layers, learning rate 0.005."""
    words = {
        "method": "{method}",
        "a_out": "{a_out}×{a_in}",
        "rank": "rank {rank}",
        "bottleneck": "bottleneck {bottleneck}",
        "scale": "scale {scale:.3g}",
        "roles": "{roles}",
        "layers": "{layers} layers",
        "learning_rate": "learning rate {learning_rate:.2g}",
    }
    return ", ".join(text.format(**params) for name, text in words.items() if name in params)
