"""Shows a running study: a live table with a row per task in a terminal or a cell of a notebook, else plain lines."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import isfinite

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from krona_tune.record.driver_state import TrialProgress
from krona_tune.search.ledger import Ledger
from krona_tune.search.terminal.cell_view import CellView, in_notebook
from krona_tune.search.terminal.result_tables import synthetic_mark
from krona_tune.study.devices import Price
from krona_tune.study.formatting import format_duration, format_epochs, format_money, format_number, format_score
from krona_tune.study.kinds import FIRST_TRAINED
from krona_tune.study.manifest import TaskFacts
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import Standings
from krona_tune.study.study_state import TrialStates, in_plan

COLUMNS = ("task", "running", "done", "stopped", "failed", "to go", "best", "head only", "constant", "parameters")
RUNNING_COLUMNS = ("running", "done", "training loss", "learning rate")
SHOWN = 8
"""How many running trials are named."""


def can_redraw(console: Console) -> bool:
    """Returns whether what was printed can be printed over, unlike in a file and in a terminal that only adds lines."""
    return console.is_terminal and not console.is_dumb_terminal


class View:
    """A view of the ledger. As a context manager it draws until its end; `changed` is called after each event."""

    def __init__(
        self,
        console: Console,
        ledger: Ledger,
        facts: dict[str, TaskFacts],
        progress: Callable[[str], TrialProgress],
        *,
        quiet: bool,
        seconds_left: Callable[[], float] | None = None,
        span: tuple[float, float] | None = None,
        price: Price | None = None,
    ) -> None:
        """Takes `progress`, which returns how far a trial is, and `seconds_left`, the forecast if any; 0 is not shown.

        `span` is the start of the session shown and the last moment known of it (seconds since the epoch); None if it
        begins now. `price`, if known, shows what the trials cost so far.
        """
        self._console, self._ledger, self._facts, self._quiet = console, ledger, facts, quiet
        self._trial_progress, self._seconds_left, self._price = progress, seconds_left, price
        self._totals = Counter(row.task for row in ledger.rows.values() if in_plan(row, ledger.running))
        began, until = span or (0.0, 0.0)
        self._started = time.monotonic() - max(0.0, until - began)
        self._seen = {row.trial_id for row in ledger.rows.values() if row.ended}
        earlier = [row for row in ledger.rows.values() if span is None or (row.ended_at or 0.0) < began]
        self._already = sum(row.ended for row in earlier)
        self._live: Live | CellView | None = None
        if in_notebook() and not quiet:
            self._live = CellView(self)
        elif can_redraw(console) and not quiet:
            self._live = Live(self, console=console, refresh_per_second=2, transient=False)

    def __enter__(self) -> "View":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def expect(self, new: Mapping[str, int]) -> None:
        """Adds trials that each task will still run to the totals."""
        self._totals.update(new)

    def end_search(self) -> None:
        """Counts no more what the search has left: trials that have not begun, or not ended."""
        rows = [row for row in self._ledger.rows.values() if in_plan(row, self._ledger.running)]
        self._totals = Counter(row.task for row in rows if row.ended or row.kind not in FIRST_TRAINED)

    def counts(self) -> tuple[int, int]:
        """Returns how many trials have ended, and how many the study has."""
        return sum(row.ended for row in list(self._ledger.rows.values())), self._totals.total()

    def say(self, text: str) -> None:
        """Prints a line between the events; does nothing if the view is quiet."""
        if not self._quiet:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def refresh(self) -> None:
        """Shows what trials do now in a notebook's cell, which does not do it by itself."""
        if isinstance(self._live, CellView):
            self._live.refresh()

    def changed(self) -> None:
        """Prints a line for each trial that has ended since the last call, if there is no live table."""
        self.refresh()
        if self._live or self._quiet:
            return
        for row in list(self._ledger.rows.values()):
            if not row.ended:
                self._seen.discard(row.trial_id)  # one that failed may go on
            elif row.trial_id not in self._seen:
                self._seen.add(row.trial_id)
                self.say(self._line(row))

    def _line(self, row: TrialResult) -> str:
        score = (
            "no score" if row.score is None else f"score {format_score(row.score)} after {format_epochs(row.epochs)}"
        )
        if row.test_score is not None:
            score += f", {format_score(row.test_score)} on test"
        tail = f"  {row.error}" if row.error else ""
        ended = f"[{len(self._seen)}/{sum(self._totals.values())}]"
        return f"{ended} {row.trial_id}  {row.status}  {score}  {row.trainable_parameters:,} parameters{tail}"

    def __rich__(self) -> Group:
        title = "Validation scores" + synthetic_mark(self._facts)
        table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
        for name in COLUMNS:
            table.add_column(name, justify="left" if name == "task" else "right", overflow="fold")
        book = self._ledger.snapshot()
        standings = book.standings
        for task, facts in self._facts.items():
            table.add_row(*self._cells(book, standings, task, facts))
        progress = {trial_id: self._trial_progress(trial_id) for trial_id in sorted(book.running)}
        done = sum(each.share for each in progress.values())
        under_way, last = _under_way(progress), self._progress(book, done)
        shown = Group(table, *under_way, last)
        if self._console.is_terminal and len(self._console.render_lines(shown)) >= self._console.height:
            return Group(last, *under_way, table)  # of what is too long for a terminal, the end is not shown
        return shown

    def _cells(self, book: Ledger, standings: Standings, task: str, facts: TaskFacts) -> list[str | Text]:
        rows = [row for row in book.rows.values() if row.task == task and in_plan(row, book.running)]
        counts = TrialStates.of(rows, book.running, self._totals[task] - len(rows))
        best, head = standings.best(task), standings.baseline(task)
        return [
            Text(facts.title),
            str(counts.running or "·"),
            str(counts.completed or "·"),
            str(counts.stopped or "·"),
            Text(str(counts.failed), style="red") if counts.failed else "·",
            str(counts.to_go),
            Text(format_score(best.score), style=_style(best.score, facts)) if best else "",
            format_score(head.score) if head else "",
            format_score(facts.constant_score),
            f"{best.trainable_parameters:,}" if best else "",
        ]

    def _progress(self, book: Ledger, under_way: float) -> Text:
        """Returns the last line; `under_way` is the sum of the running trials' shares done."""
        ended = sum(row.ended for row in book.rows.values())
        total = sum(list(self._totals.values()))
        elapsed = time.monotonic() - self._started
        new = ended - self._already + under_way
        rest = total - ended - under_way
        seconds = elapsed / new * rest if new >= 3 else 0.0
        if self._seconds_left:
            seconds = self._seconds_left()
        left = f", about {format_duration(seconds)} left" if seconds > 0 else ""
        cost = f", cost so far {format_money(self._price.of(book.rows.values()))}" if self._price else ""
        return Text(f"{ended} of {total} trials, {format_duration(elapsed)}{left}{cost}", style="dim")


def _style(score: float | None, facts: TaskFacts) -> str:
    """Returns the colour of a best score: green if it is above the constant answer's, or nobody knows that."""
    constant = facts.constant_score
    return "default" if score is not None and isfinite(constant) and score <= constant else "green"


def _under_way(progress: Mapping[str, TrialProgress]) -> Sequence[RenderableType]:
    """Returns a table of the first SHOWN running trials, and how many more run."""
    if not progress:
        return ()
    table = Table(box=None, pad_edge=False, header_style="dim", style="dim")
    for name in RUNNING_COLUMNS:
        table.add_column(name, justify="left" if name == "running" else "right", overflow="fold")
    for trial_id, each in list(progress.items())[:SHOWN]:
        loss, rate = (each.last.loss, each.last.learning_rate) if each.last else (None, None)
        table.add_row(Text(trial_id), f"{each.share:.0%}", format_number(loss), format_number(rate))
    more = len(progress) - SHOWN
    return (table, Text(f"and {more} more", style="dim")) if more > 0 else (table,)
