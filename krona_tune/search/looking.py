"""Looking at studies and changing nothing: which there are, what one has found, how one goes on."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from rich.console import Console
from rich.live import Live
from rich.table import Table

from krona_tune.record.lock import is_locked
from krona_tune.record.read import read_trials
from krona_tune.record.remote.claim import is_held
from krona_tune.record.remote.storage import refresh
from krona_tune.refusal import Refusal
from krona_tune.search.ledger import Ledger
from krona_tune.search.progress import share_done
from krona_tune.search.ranking import ranking
from krona_tune.search.view import View
from krona_tune.study.folder import StudyFolder
from krona_tune.study.loader import load_spec
from krona_tune.study.manifest import Manifest, read_manifest
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.spec import StudySpec

SECONDS, REMOTE_SECONDS = 2.0, 15.0
"""Between two looks at a study that runs, and at one that runs elsewhere."""


class NothingKept:
    """A sink for a ledger that is only looked at."""

    def trial_started(self, result: TrialResult) -> None: ...

    def reported(self, report: object) -> None: ...

    def trial_ended(self, result: TrialResult) -> None: ...

    def study_ended(self, artifacts: object) -> None: ...


def studies_in(storage: str, folders: Sequence[StudyFolder]) -> Table:
    """The studies of a storage, the newest last. Raises a Refusal where there is none."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("study", "begun", "state", "tasks", "trials", "data"):
        table.add_column(name, justify="right" if name == "trials" else "left")
    found = [(manifest, folder) for folder in folders if (manifest := _manifest(folder))]
    for manifest, folder in sorted(found, key=lambda pair: pair[0].created_at):
        rows = read_trials(folder.results) if folder.results.exists() else []
        data = "synthetic" if manifest.synthetic else "real"
        table.add_row(
            folder.name, manifest.created_at[:16], _state(folder, rows), ", ".join(manifest.tasks), str(len(rows)), data
        )
    if not found:
        raise Refusal(storage, "no study is here", "run one, or name its folder with --storage")
    return table


def show(folder: StudyFolder, console: Console) -> None:
    """Prints what a study has found so far. Raises a Refusal where it has not begun."""
    manifest = _needed(folder)
    spec = load_spec(folder.spec)
    ledger = _ledger(folder, spec)
    console.print(f"{folder.root}: {_state(folder, ledger.rows.values())}", highlight=False, soft_wrap=True)
    console.print(ranking(ledger, manifest.tasks, fronts=spec.search.objective == "pareto"))


def watch(folder: StudyFolder, console: Console) -> None:
    """Draws a running study until it ends. Raises a Refusal where it has not begun."""
    facts, spec = _needed(folder).tasks, load_spec(folder.spec)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            runs = is_running(folder)
            ledger = _ledger(folder, spec)
            ledger.running = {row.trial_id for row in ledger.rows.values() if runs and row.ended_at is None}
            live.update(View(console, ledger, facts, partial(share_done, folder), quiet=True), refresh=True)
            if not runs:
                return
            time.sleep(SECONDS if is_locked(folder) else REMOTE_SECONDS)
            refresh(folder)


def is_running(folder: StudyFolder) -> bool:
    """Whether a process has the study, here or, where it has a copy elsewhere, there."""
    return is_locked(folder) or is_held(folder)


def _manifest(folder: StudyFolder) -> Manifest | None:
    try:
        return read_manifest(folder.manifest)
    except (OSError, ValueError):
        return None


def _needed(folder: StudyFolder) -> Manifest:
    if manifest := _manifest(folder):
        return manifest
    raise Refusal(str(folder.manifest), "it can't be read", "the study has not begun, or its manifest is damaged")


def _ledger(folder: StudyFolder, spec: StudySpec) -> Ledger:
    """The study's rows, as its driver has them."""
    rows = read_trials(folder.results) if folder.results.exists() else []
    return Ledger(None, NothingKept(), rows, shared_by=spec.tasks if spec.search.shared else ())


def _state(folder: StudyFolder, rows: Iterable[TrialResult]) -> str:
    counts: Mapping[Status, int] = Counter(row.status for row in rows)
    words = [f"{counts[status]} {str(status).replace('_', ' ')}" for status in Status if counts[status]]
    return ", ".join(["running"] * is_running(folder) + words) or "nothing yet"
