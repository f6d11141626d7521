"""Runs whole studies in a folder of their own, as a user does: in a new process, or in one that has Ray already."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from krona_tune.api.exit_status import ExitStatus
from krona_tune.record.parquet_reader import read_trials
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import TrialResult
from tests.waiting import PATIENCE

SPACE = """\
model: {model}
data: mini
adapter:
  a_out: divisors
  a_in: {{divisors: {{low: 2, high: 12}}}}
  scale: [1, 4]
  roles: [query+value, output]
training:
  learning_rate: {{low: 1e-3, high: 1e-1, log: true}}
  batch_size: 16
  dropout: 0.0
schedule: {{epochs: 2, grace_epochs: 1, reduction: 2}}
examples: {{train: 64, validation: 32, test: 32, max_length: 40}}
search: {{startup_trials: 2}}
"""
RUN_STUDY = "from krona_tune.cli import end_process_after, run_study; end_process_after(run_study)"
KRONA_TUNE = "from krona_tune.cli import program; program()"
SOON = """
from functools import partial
from krona_tune.record import orders
from krona_tune.search.startup import cluster
orders.LOOK_SECONDS = 0.1
cluster.start_patiently = partial(cluster.start_patiently, include_dashboard=False)
"""
"""Lets the program that follows look for orders often, and its Ray have no dashboard, whose processes take seconds."""
ONE_WORKER = ("--max-concurrent", "1")
"""Lets a study start one process that trains, which on a machine of two cores is less work than two."""
ONE_CPU = {"RAY_OVERRIDE_RESOURCES": '{"CPU": 1}'}
"""Makes a Ray that starts here offer one CPU, so that it begins no worker that would only wait."""
Done = subprocess.CompletedProcess[str]


@cache
def empty_store() -> bytes:
    """Returns a database in which MLflow has made its tables, and put nothing."""
    from krona_tune.record.mlflow_mirror.mlflow_runs import ensure_schema

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        ensure_schema(f"sqlite:///{path}")
        return path.read_bytes()


@dataclass(frozen=True)
class Home:
    """A folder for studies, caches and Ray's sessions."""

    root: Path

    @staticmethod
    @contextmanager
    def near_the_root() -> "Iterator[Home]":
        """Yields a temporary folder with a short path, because a socket's path must be short.

        In the end it kills what runs there still, as the driver of a test that failed.
        """
        folder = Path(tempfile.mkdtemp(prefix="krona-"))
        try:
            yield Home(folder)
        finally:
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    if process.environ().get("RAY_TMPDIR") == str(folder):
                        process.kill()
            shutil.rmtree(folder, ignore_errors=True)

    def command(self, *words: str, program: str = RUN_STUDY) -> dict[str, Any]:
        """Returns the arguments with which `subprocess` runs a program here, separate from any running Ray.

        If the words ask for one worker, the Ray that the program may start offers one CPU.
        """
        places = {"RAY_TMPDIR": str(self.root), "XDG_CACHE_HOME": str(self.root / "cache"), "HF_HUB_OFFLINE": "1"}
        apart = {
            name: value for name, value in os.environ.items() if name not in {"RAY_ADDRESS", "MLFLOW_TRACKING_URI"}
        }
        return {
            "args": [sys.executable, "-c", program, *words],
            "cwd": self.root,
            "env": {**apart, **places, **(ONE_CPU if {*ONE_WORKER} <= {*words} else {})},
            "text": True,
        }

    def run(self, *words: str, program: str = RUN_STUDY) -> Done:
        command = self.command(*words, program=program)
        return subprocess.run(**command, capture_output=True, timeout=PATIENCE, check=False)

    def space(self, model: Path) -> str:
        path = self.root / f"{model.name}.yaml"
        path.write_text(SPACE.format(model=model), encoding="utf-8")
        return str(path)

    def make_storage(self, storage: str = "studies") -> None:
        """Makes a folder for studies, with MLflow's database, which else takes their first driver seconds."""
        (self.root / storage).mkdir()
        (self.root / storage / "mlflow.db").write_bytes(empty_store())

    def study(self, name: str, storage: str = "studies") -> StudyFolder:
        return StudyFolder(self.root / storage / name)

    def rows(self, name: str, storage: str = "studies") -> dict[str, TrialResult]:
        return rows_of(self.study(name, storage))


def rows_of(folder: StudyFolder) -> dict[str, TrialResult]:
    """Returns a study's rows by their ids; each id is there once."""
    rows = read_trials(folder.results)
    found = {row.trial_id: row for row in rows}
    assert len(found) == len(rows)
    return found


class WarmProgram:
    """The program in one process that has imported everything and keeps its Ray: only its first run waits for both.

    Its Ray has one CPU: a study that asks for no number trains one trial after the other.

    The runs share what a process shares, as studies in a notebook do. Each trial has a worker process of its own.
    After a run that lost its Ray, or its process, another process begins: one failure is not that of all later runs.
    """

    def __init__(self, place: Home) -> None:
        self._place, self._said = place, place.root / "said"
        self._process = self._begun()

    def _begun(self) -> subprocess.Popen[str]:
        asked = self._place.command(program=f"{SOON}from tests.warm_process import serve; serve()")
        asked |= {"cwd": Path(__file__).parent.parent, "env": asked["env"] | ONE_CPU}
        return subprocess.Popen(**asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, home: Home, *words: str, program: str = "run_study") -> Done:
        """Runs `run_study` or `main` (which is `krona-tune`) at home; returns what it said and its exit status."""
        if self._process.poll() is not None:
            self._process = self._begun()
        assert self._process.stdin
        assert self._process.stdout
        asked = {"words": [program, *words], "folder": str(home.root), "said": str(self._said)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        status = self._process.stdout.readline()
        assert status, "the process has ended"
        out, err = (self._said.with_suffix(end).read_text(encoding="utf-8") for end in (".out", ".err"))
        if int(status) in {ExitStatus.NOT_NOW, ExitStatus.RAY_LOST}:
            self.end()
        return subprocess.CompletedProcess(words, int(status), out, err)

    def logs(self) -> list[Path]:
        """Returns the files in which its Ray logs."""
        return list((self._place.root / "ray").rglob("*.log"))

    def end(self) -> None:
        """Lets the process leave its Ray and end; kills it if it does not."""
        try:
            self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
