"""Makes up a search on two tasks, and the states that its trials have stored."""

from dataclasses import replace

from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status, TrialResult
from tests.study.final_rows import row

SEARCHED = [
    row("000", "search", 0.6, number=0),
    row("001", "search", 0.8, number=1),
    row("002", "search", 0.1, number=2, status=Status.STOPPED_EARLY),
    replace(row("003", "search", None, number=3), status=Status.INTERRUPTED),
    row("head-0", "baseline", 0.5),
    row("000", "search", 0.4, number=0, task="cola"),
    row("001", "search", 0.3, number=1, task="cola"),
]


def states(folder: StudyFolder, rows: list[TrialResult]) -> None:
    for each in rows:
        (folder.checkpoints / each.trial_id / "rung-1").mkdir(parents=True)
        (folder.checkpoints / each.trial_id / "rung-1" / "state").write_bytes(b"x" * 1000)
