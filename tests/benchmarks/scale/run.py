"""`python -m tests.benchmarks.scale.run`: runs a study of 2,000 simulated trials over 64 slots, stops it halfway and
resumes it; measures the driver's memory, seconds per report and error messages from outside. `--in-ray` makes the
slots actors of Ray Tune."""

import argparse
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.study.folder import StudyFolder
from tests.benchmarks.scale.plot import draw
from tests.benchmarks.scale.study import TASKS

EVERY_SECONDS = 2.0
RESULTS = Path(__file__).parent / "results"
COMPLAINT = re.compile(r"database is locked|OperationalError|could not be (recorded|sent)|Traceback|LockError")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The driver at one moment. `cpu_seconds` count all its threads, `loop_seconds` its main thread, which schedules
    trials if one loop replaces Tune; `run` is 1 before the interruption, 2 after it."""

    run: int
    seconds: float
    reports: int
    trial_events: int
    resident_bytes: int
    cpu_seconds: float
    loop_seconds: float


def watched(driver: "subprocess.Popen[str]", folder: StudyFolder, run: int, every: float) -> Iterator[Moment]:
    """Yields the driver's state every `every` seconds until it ends."""
    began, parts = time.monotonic(), folder.results / "parts"
    while driver.poll() is None:
        try:
            names = os.listdir(parts) if parts.exists() else []
            process = Path(f"/proc/{driver.pid}")
            cpu, loop = _cpu_seconds(process), _cpu_seconds(process / "task" / str(driver.pid))
            pages = int((process / "statm").read_text(encoding="utf-8").split()[1])
        except OSError:
            continue
        yield Moment(
            run=run,
            seconds=time.monotonic() - began,
            reports=sum(name.startswith("reports-") for name in names),
            trial_events=sum(name.startswith("trials-") for name in names),
            resident_bytes=pages * os.sysconf("SC_PAGESIZE"),
            cpu_seconds=cpu,
            loop_seconds=loop,
        )
        time.sleep(every)  # sleep: it measures from time to time


def _cpu_seconds(process: Path) -> float:
    """Returns the user and system time of a process, or of a thread, from its folder in /proc."""
    stat = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def watch(home: Path, words: list[str], run: int, half: int | None) -> list[Moment]:
    """Watches one run of the driver from start to end; interrupts it when `half` trials have ended."""
    folder = StudyFolder(home / "studies" / "scale")
    command = [sys.executable, "-m", "tests.benchmarks.scale.study", str(home), *words]
    moments = []
    with (home / "said").open("a", encoding="utf-8") as said:
        driver = subprocess.Popen(
            command, stdout=said, stderr=said, text=True, env={**os.environ, "RAY_TMPDIR": str(home)}
        )
        asked = False
        for moment in watched(driver, folder, run, EVERY_SECONDS):
            moments.append(moment)
            if half and not asked and moment.trial_events >= 2 * half:
                driver.send_signal(signal.SIGINT)
                asked = True
    assert driver.returncode == 0, (home / "said").read_text(encoding="utf-8")[-3000:]
    return moments


def summary(home: Path, moments: list[Moment]) -> Iterator[str]:
    """Yields the summary, line by line."""
    folder = StudyFolder(home / "studies" / "scale")
    trials, reports = read_trials(folder.results), read_reports(folder.results)
    yield f"{len(trials)} trials and {len(reports)} reports, each once; {len({t.status for t in trials})} kinds of end"
    for run in (1, 2):
        own = [m for m in moments if m.run == run]
        at_work = [m for m in own if m.reports]
        yield f"run {run}: first report after {at_work[0].seconds:.0f} s, {own[-1].seconds:.0f} s in all"
        cut = max(m.reports for m in own)
        marks = [next(m for m in at_work if m.reports >= share * cut) for share in (0.1, 0.4, 0.7, 1.0)]
        for before, after in pairwise(marks):
            news = after.reports - before.reports
            yield (
                f"  reports {before.reports} to {after.reports}: "
                f"{1000 * (after.loop_seconds - before.loop_seconds) / news:.1f} ms of the loop's processor a report, "
                f"{1000 * (after.cpu_seconds - before.cpu_seconds) / news:.1f} of all the driver's threads, "
                f"{news / (after.seconds - before.seconds):.1f} reports a second, "
                f"{after.resident_bytes / 2**20:.0f} MiB resident"
            )
    said = (home / "said").read_text(encoding="utf-8")
    yield f"complaints: {sorted({found[0] for found in COMPLAINT.finditer(said)}) or 'none'}"


def main() -> None:
    """Runs both halves and writes a table, a CSV file and a picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="of all tasks together")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.0, help="between two rungs of a trial")
    parser.add_argument("--in-ray", action="store_true", help="actors of Ray Tune instead of one loop")
    parser.add_argument("--keep", type=Path, default=RESULTS, help="where the results go")
    words = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="krona-"))
    passed = ["--trials", str(words.trials // len(TASKS)), "--slots", str(words.slots), "--seconds", str(words.seconds)]
    passed += ["--in-ray"] * words.in_ray
    moments = watch(home, passed, 1, words.trials // 2) + watch(home, passed, 2, None)
    name = "ray" if words.in_ray else "loop"
    words.keep.mkdir(exist_ok=True)
    with (words.keep / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(asdict(moments[0])))
        table.writeheader()
        table.writerows({**asdict(each), "seconds": round(each.seconds, 1)} for each in moments)
    lines = list(summary(home, moments))
    (words.keep / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    draw(words.keep / f"{name}.csv", words.keep / f"{name}.svg")
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
