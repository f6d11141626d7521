"""Reads studies without changing them: lists them, shows one's results, or watches its progress."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from os.path import lexists
from pathlib import Path

from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from krona_tune.record.driver_state import progress_of
from krona_tune.record.ownership import is_locked, is_running
from krona_tune.record.records import read_trials_so_far
from krona_tune.record.sink import NullSink
from krona_tune.record.storage import LISTED, Storage, refresh
from krona_tune.refusal import Refusal, told
from krona_tune.search.budget import RAISED_BY, Budget, StudyClock, spent
from krona_tune.search.ledger import Ledger
from krona_tune.search.progress.study_status import read_status
from krona_tune.search.terminal.live_view import View, can_redraw
from krona_tune.search.terminal.result_tables import FittingTable, build_result_tables
from krona_tune.study.devices import price_of
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_many
from krona_tune.study.manifest import Manifest, read_manifest
from krona_tune.study.request.loader import load_spec
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import Standings
from krona_tune.study.study_state import ALL_DONE, running_trials

LOCAL_SECONDS, REMOTE_SECONDS = 2.0, 15.0
"""The time between two looks at a study that runs here, and at one that runs elsewhere."""


def studies_in(storage: Storage) -> FittingTable:
    """Returns a table of a storage's studies, the newest last. Raises a Refusal if there are none.

    The row of a study that can't be read says so.
    """
    lines = [line for folder in storage.studies() if (line := _line(folder))]
    if not lines:
        raise Refusal(str(storage), "no study is here", "run one, or name its folder with --storage")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("study", "begun", "state", "tasks", "trials", "data"):
        justify: JustifyMethod = "right" if name == "trials" else "left"
        table.add_column(name, justify=justify, no_wrap=name in {"study", "begun"}, overflow="fold")
    for line in sorted(lines, key=lambda line: line[1]):
        table.add_row(*map(escape, line))
    return FittingTable(table)


def show(folder: StudyFolder, console: Console) -> None:
    """Prints what a study has found so far. Raises a Refusal if it has not begun or can't be read."""
    manifest = read_manifest(folder.manifest)
    spec = load_spec(folder.spec)
    rows, state, by_itself = _looked_at(folder, manifest)
    more = _more_of(spec.search, rows, folder) if by_itself else ""
    goes_on = "" if by_itself is None else f"; krona-tune resume {folder.name}{folder.storage_flag} goes on{more}"
    console.print(f"{folder.root}: {state}{goes_on}", highlight=False, markup=False, soft_wrap=True)
    console.print(build_result_tables(Standings(rows, spec.shared_by), manifest.tasks, spec.search))


def watch(folder: StudyFolder, console: Console) -> None:
    """Shows a running study until it ends; where nothing can be redrawn, again after each change.

    Raises:
        Refusal: it has not begun, or can't be read.
    """
    manifest, shown = read_manifest(folder.manifest), object()
    with Live(console=console, auto_refresh=False) if can_redraw(console) else nullcontext() as live:
        while True:
            runs, spec = is_running(folder), load_spec(folder.spec)  # which an order may have changed
            rows = list(map(manifest.unrecorded_devices(spec.resources).filled_in, _rows(folder)[0]))
            ledger = Ledger(None, NullSink(), rows, shared_by=spec.shared_by)
            ledger.running = set(running_trials(rows)) if runs else set()
            span = _session(folder, None if runs else rows)
            progress, price = partial(progress_of, folder), price_of(spec.resources)
            status = read_status(folder, rows, runs=runs, manifest=manifest, spec=spec)
            foretold = partial(float, status.state.seconds_left or 0.0)
            view = View(
                console, ledger, manifest.tasks, progress, quiet=True, seconds_left=foretold, span=span, price=price
            )
            view.expect(status.to_come or {})
            now = [(row.trial_id, row.status, row.rung) for row in rows], runs
            if live:
                live.update(view, refresh=True)
            elif now != shown:
                console.print(view)
                shown = now
            if not runs or console.quiet:  # it is quiet once its reader has left
                return
            time.sleep(LOCAL_SECONDS if is_locked(folder) else REMOTE_SECONDS)
            refresh(folder)


def _more_of(search: SearchSpec, rows: Sequence[TrialResult], folder: StudyFolder) -> str:
    """Returns of what a study whose driver ended by itself needs more to train the rest; empty if nothing limits it."""
    limits = Budget.of(search)
    if limits == Budget():
        return ""
    used = limits.used_up(spent({row.trial_id: row for row in rows}, StudyClock(folder.clock, counts=False).seconds()))
    return f" with a larger {RAISED_BY[used] if used else 'budget'}"


def _session(folder: StudyFolder, ended: Sequence[TrialResult] | None) -> tuple[float, float]:
    """Returns the last session's start, when it wrote the manifest, and its end: now if `ended` is None."""
    began = folder.manifest.stat().st_mtime
    if ended is None:
        return began, time.time()
    return began, max((row.ended_at for row in ended if row.ended_at is not None), default=began)


def _line(folder: StudyFolder) -> tuple[str, ...] | None:
    """Returns a study's row; None if the study has not begun."""
    begun = tasks = trials = data = ""
    try:
        refresh(folder, LISTED)
        if not lexists(folder.spec) and not lexists(folder.manifest):
            return None
        manifest = read_manifest(folder.manifest)
        begun, tasks = manifest.created_at[:16].replace("T", " "), ", ".join(manifest.tasks)
        data = "synthetic" if manifest.synthetic else "real"
        if not lexists(folder.spec):
            raise Refusal(str(folder.spec), "is missing")
        rows, state, _ = _looked_at(folder, manifest)
        trials = str(len(rows))
    except Refusal as refusal:
        state = f"{Path(refusal.place).name}: {refusal.problem}"
    except OSError as error:
        state = f"it can't be read ({told(error)})"
    return folder.name, begun, state, tasks, trials, data


def _looked_at(folder: StudyFolder, manifest: Manifest) -> tuple[list[TrialResult], str, bool | None]:
    """Returns the study's rows and its state in words; if something is left and no driver runs, whether the last one
    ended by itself, as by a budget, else None."""
    rows, unread = _rows(folder)
    status = read_status(folder, rows, runs=is_running(folder), manifest=manifest)
    state, left = status.state, status.state.states.to_go or 0
    stopped = state.stopped and status.problem is None
    end = f"{state.word} with {format_many(left, 'trial')} to go" if left else state.word
    by_itself = (status.last is not None and status.last.end == ALL_DONE) if stopped else None
    damage = f"{len(unread)} of its records can't be read" if unread else ""
    return rows, ", ".join(filter(None, (end * stopped, state.text, damage))) or "nothing yet", by_itself


def _rows(folder: StudyFolder) -> tuple[list[TrialResult], set[Path]]:
    """Returns the study's rows, as far as they have reported, and the parts that can't be read; raises a Refusal if the
    compacted file can't be read, because too much would be missing."""
    unread: set[Path] = set()

    def leave_out(path: Path, refusal: Refusal) -> None:
        if path.parent == folder.results:
            raise refusal
        unread.add(path)

    return read_trials_so_far(folder.results, leave_out), unread
