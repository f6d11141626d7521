"""Tests the batch script for Slurm with stand-ins for Slurm's and Ray's programs, so no Slurm is needed.

They show how signals reach the driver, and when the job is requeued.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from krona_tune.cli import app
from tests.waiting import until

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "study.sbatch"
pytestmark = pytest.mark.slow
SECONDS = 60
"""How long the script may take to end."""
WAITS = """#!{python}
import os, signal, sys
name = os.path.basename(sys.argv[0])
heard = {{signal.SIGTERM, signal.SIGINT}}
signal.pthread_sigmask(signal.SIG_BLOCK, heard)
def say(*words):
    with open({log!r}, "a") as file:
        file.write(" ".join(map(str, (name, *words))) + "\\n")
say("run", *sys.argv[1:])
if name == "krona-tune":
    with open({ready!r}, "w") as file:
        file.write("runs")
if name in {at_once!r}:
    sys.exit({at_once!r}[name])
first = signal.sigwaitinfo(heard)
say("heard", signal.Signals(first.si_signo).name, first.si_pid)
if name == "krona-tune":
    with open({ready!r}, "w") as file:
        file.write("heard")
while name == "krona-tune" and (more := signal.sigtimedwait(heard, 0.3)):
    say("heard", signal.Signals(more.si_signo).name, more.si_pid)
sys.exit({stopped})
"""
"""A program that writes its words, then who sent it which signals. The driver tells the test that it runs."""
ANSWERS = """#!/bin/sh
echo "{name} $*" >> {log}
case "{name} $1 $2" in
  "scontrol show hostnames") printf 'one\\ntwo\\n' ;;
  "hostname --ip-address "*) echo "::1 127.0.1.1" ;;
  "hostname --all-ip-addresses "*) echo "fd00::2 10.1.2.3 10.1.2.4" ;;
  "python "*) exit "${{ABSENT:-0}}" ;;
esac
"""
"""A program that answers at once. `python` says whether all nodes have joined Ray."""


HEARING = """import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])"""
"""Becomes a program that hears Ctrl-C, also where the tests run in the background of a shell, which ignores it."""


class Job:
    """A running batch script, alone in its process group, and what the stand-ins wrote."""

    def __init__(self, folder: Path, at_once: dict[str, int], stopped: int, environment: dict[str, str]) -> None:
        self.log, self.ready = folder / "log", folder / "ready"
        self.log.touch()
        os.mkfifo(self.ready)
        programs = folder / "bin"
        programs.mkdir()
        words = {"python": sys.executable, "at_once": at_once, "stopped": stopped}
        words |= {"log": str(self.log), "ready": str(self.ready)}
        texts = {name: WAITS.format(**words) for name in ("srun", "krona-tune")}
        texts |= {name: ANSWERS.format(name=name, log=self.log) for name in ("scontrol", "ray", "hostname", "python")}
        for name, text in texts.items():
            (programs / name).write_text(text, encoding="utf-8")
            (programs / name).chmod(0o755)
        slurm = {"JOB_ID": "77", "JOB_NODELIST": "n[1-2]", "CPUS_PER_TASK": "8", "SUBMIT_DIR": str(folder)}
        there = os.environ | {f"SLURM_{name}": value for name, value in slurm.items()} | environment
        there["PATH"] = f"{programs}{os.pathsep}{there['PATH']}"
        command = [sys.executable, "-c", HEARING, "bash", str(SCRIPT), "--seed", "3", "--tasks", "cola,rte"]
        self.process = subprocess.Popen(command, env=there, start_new_session=True, stdout=subprocess.PIPE)

    def wait_for_ray(self) -> None:
        """Returns once Ray's head and its workers run and wait for signals."""
        until(lambda: len(self.lines("srun run")) == 2, SECONDS)

    def wait_for_driver(self) -> None:
        """Returns once the driver runs, and again once it heard a signal: a FIFO opens when both sides are there."""
        self.ready.read_text()

    def end(self) -> int:
        """Returns the script's status once it and all that it started have closed their output."""
        self.process.communicate(timeout=SECONDS)
        return self.process.returncode

    def lines(self, start: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith(start)]


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[list[Job]]:
    started: list[Job] = []
    yield started
    for job in started:
        if job.process.poll() is None:
            os.killpg(job.process.pid, signal.SIGKILL)


def begun(jobs: list[Job], folder: Path, *, stopped: int = 130, **environment: str) -> Job:
    """Begins a job whose driver ends with the status `stopped` when it hears a signal."""
    jobs.append(Job(folder, {}, stopped, environment))
    return jobs[-1]


def failing(jobs: list[Job], folder: Path, program: str, status: int, **environment: str) -> Job:
    """Begins a job of which a program ends at once."""
    jobs.append(Job(folder, {program: status}, 130, environment))
    return jobs[-1]


def to_the_group(job: Job) -> None:
    os.killpg(job.process.pid, signal.SIGTERM)


def to_the_script(job: Job) -> None:
    job.process.terminate()


def twice(job: Job) -> None:
    """The second signal comes when the driver has heard the first, so they can't be taken for one."""
    to_the_group(job)
    job.wait_for_driver()
    to_the_script(job)


@pytest.mark.parametrize("send", [to_the_group, to_the_script, twice])
def test_a_signal_reaches_the_driver_once_and_from_the_script_and_the_job_is_requeued(
    jobs: list[Job], tmp_path: Path, send: object
) -> None:
    """Slurm signals the batch script alone with `--signal=B:`, and its group or all steps at a preemption."""
    assert callable(send)
    job = begun(jobs, tmp_path)
    job.wait_for_ray()
    job.wait_for_driver()
    send(job)
    if send is not twice:
        job.wait_for_driver()
    assert job.end() == 130
    assert job.lines("krona-tune heard") == [f"krona-tune heard SIGTERM {job.process.pid}"]
    assert job.lines("scontrol requeue") == ["scontrol requeue 77"]
    assert job.lines("srun heard") == [f"srun heard SIGTERM {job.process.pid}"] * 2, "Ray stays until the driver ended"
    order = [line.split()[0] for line in job.log.read_text().splitlines() if " heard " in line]
    assert order[0] == "krona-tune"


def test_a_person_ends_it_for_good(jobs: list[Job], tmp_path: Path) -> None:
    job = begun(jobs, tmp_path)
    job.wait_for_ray()
    job.wait_for_driver()
    job.process.send_signal(signal.SIGINT)
    job.wait_for_driver()
    assert job.end() == 130
    assert job.lines("krona-tune heard") == [f"krona-tune heard SIGTERM {job.process.pid}"]
    assert not job.lines("scontrol requeue")


def test_a_driver_that_slurm_stops_before_it_can_hear_a_signal_is_started_again(
    jobs: list[Job], tmp_path: Path
) -> None:
    """Python that still imports is ended by SIGTERM itself."""
    job = begun(jobs, tmp_path, stopped=143)
    job.wait_for_ray()
    job.wait_for_driver()
    to_the_script(job)
    job.wait_for_driver()
    assert job.end() == 143
    assert job.lines("scontrol requeue") == ["scontrol requeue 77"]


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [
        (0, "0", False),
        (1, "0", False),
        (2, "0", False),
        (70, "0", False),
        (130, "0", False),  # an order cancelled the study, or it halted on a full disk
        (69, "0", True),
        (75, "3", True),
        (75, "50", False),
    ],
)
def test_a_job_is_requeued_only_if_its_study_can_go_on(
    jobs: list[Job], tmp_path: Path, status: int, restarts: str, requeued: bool
) -> None:
    job = failing(jobs, tmp_path, "krona-tune", status, SLURM_RESTART_COUNT=restarts)
    job.wait_for_ray()
    job.wait_for_driver()
    assert job.end() == status
    assert bool(job.lines("scontrol requeue")) == requeued


def test_a_job_whose_ray_does_not_start_is_requeued(jobs: list[Job], tmp_path: Path) -> None:
    job = failing(jobs, tmp_path, "srun", 1, ABSENT="1")
    assert job.end() == 69
    assert job.lines("scontrol requeue") == ["scontrol requeue 77"]
    assert not job.lines("krona-tune")


def test_a_job_of_which_a_node_does_not_join_ray_is_requeued(jobs: list[Job], tmp_path: Path) -> None:
    job = begun(jobs, tmp_path, ABSENT="1", START_SECONDS="0")
    assert job.end() == 69
    assert job.lines("scontrol requeue") == ["scontrol requeue 77"]
    assert not job.lines("krona-tune")


@pytest.mark.parametrize(
    ("asked_gpus", "told"), [("a100:4", " --gpus-per-node=a100:4"), ("", "")], ids=["gpus", "gres"]
)
def test_the_programs_are_called_as_they_understand_it(
    jobs: list[Job], tmp_path: Path, asked_gpus: str, told: str
) -> None:
    more = {"NAME": "mine", "TRIALS_PER_NODE": "3", "SLURM_GPUS_PER_NODE": asked_gpus}
    job = failing(jobs, tmp_path, "krona-tune", 0, **more)
    job.wait_for_ray()
    job.wait_for_driver()
    assert job.end() == 0
    head, workers = sorted(job.lines("srun run"), key=lambda line: "--head" not in line)
    assert "--nodes=1 --nodelist=one ray start --head" in head
    assert "--nodes=1 --exclude=one ray start --address=" in workers
    assert "--node-ip-address=10.1.2.3 --port=20077 --num-cpus=8 --block" in head
    assert all(f" --ntasks-per-node=1 --cpus-per-task=8{told} --nodes=1 " in line for line in (head, workers))
    assert [line.split()[-1] for line in job.log.read_text().splitlines() if "int(sys.argv[2])" in line] == ["1", "2"]
    (line,) = job.lines("krona-tune run")
    group = typer.main.get_command(app)
    _, verb, rest = group.resolve_command(typer.Context(group), shlex.split(line)[2:])  # type: ignore[attr-defined]
    asked = verb.make_context("run", rest).params
    assert (asked["name"], asked["or_resume"], asked["max_concurrent"], asked["seed"]) == ("mine", True, 6, 3)
    assert asked["tasks"] == "cola,rte", "given once, after the script's own words"
    assert asked["storage"] == f"{tmp_path}/studies"
    assert asked["address"] == "10.1.2.3:20077"


def test_the_script_asks_slurm_for_what_resuming_needs() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    asked = [line.split()[1] for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert {"--requeue", "--signal=B:TERM@300", "--open-mode=append"} <= set(asked)
    assert "--or-resume" in text


def test_shellcheck_finds_nothing() -> None:
    program = Path(sys.executable).with_name("shellcheck")
    if not program.exists():
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, "--severity=warning", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
