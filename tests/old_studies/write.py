"""Writes the studies that every later version must open: `python -m tests.old_studies.write FOLDER`.

One study ended, with finals and adapters, one was asked to stop and one was killed. Their backbone is tiny and random,
their data are generated. Only what a study needs is kept: no page, no log, nothing of Ray or MLflow. `rows.json` holds
each trial's status, and its score if it ended.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from krona_tune.record.parquet_reader import read_trials
from krona_tune.study.folder import StudyFolder
from tests.faults.drivers import Driver, begun, rungs, until_or_end, well_ended
from tests.old_studies.stored import PLACE, STORED, TEXTS
from tests.search.models import saved_bert
from tests.whole_studies import Home

FINALS = ("--set", "finalists.top=1", "--set", "finalists.seeds=2")
LONG = ("--set", "schedule.epochs=8")


def write(target: Path) -> None:
    with Home.near_the_root() as home:
        _write(home, target)


def _write(home: Home, target: Path) -> None:
    root, model = home.root, saved_bert(home.root / "bert")
    well_ended(begun(home, model, "finished", "cola,stsb", 3, *FINALS))
    for name, number in (("interrupted", signal.SIGINT), ("killed", signal.SIGKILL)):
        _stop(begun(home, model, name, "cola", 4, *LONG), home.study(name), number)
    shutil.copytree(model, target / "bert")
    for name in ("finished", "interrupted", "killed"):
        _keep(home.study(name), target / STORED / name)
    for path in target.rglob("*"):
        if path.suffix in TEXTS:
            path.write_text(path.read_text(encoding="utf-8").replace(str(root), PLACE), encoding="utf-8")
    (target / "rows.json").write_text(json.dumps(_rows(target / STORED), indent=1) + "\n", encoding="utf-8")


def _stop(driver: Driver, study: StudyFolder, number: signal.Signals) -> None:
    until_or_end(driver, lambda: rungs(study, "cola-000") >= 2 and rungs(study) >= 4)
    os.kill(driver.pid, number)
    driver.communicate()


def _keep(study: StudyFolder, target: Path) -> None:
    left_out = ("optimiser.pt",) if study.name == "finished" else ()  # only a trial that continues reads it
    kept = (study.spec, study.manifest, study.clock, study.journal, study.results, study.checkpoints)
    for path in (*kept, study.root / "adapters"):
        if path.is_dir():
            shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns(*left_out))
        elif path.exists():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / path.name)


def _rows(studies: Path) -> dict[str, dict[str, list[object]]]:
    rows = {study.name: read_trials(study / "results") for study in sorted(studies.iterdir())}
    return {name: {row.trial_id: [row.status, row.score] for row in found} for name, found in rows.items()}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
