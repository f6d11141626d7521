"""Tests that drivers start with their request, are found again, and say what they wrote."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray.job_submission import JobStatus

from krona_tune.service.queue import drivers as queue_drivers
from krona_tune.service.queue.drivers import SPACE, JobDrivers, LocalDrivers, NotStartedError, packed, unpack
from tests.waiting import until


def test_a_process_starts_beside_its_request_and_is_found_by_another_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os, signal, sys; print(sys.argv[1:], open('space.yaml').read(), os.environ['WHO']); signal.pause()"
    monkeypatch.setattr("krona_tune.api.driver_process.CODE", code)
    first = LocalDrivers(tmp_path)
    handle = first.start("mine", "", ["run", "--quiet"], "model: m", {"WHO": "ann"})
    again = LocalDrivers(tmp_path)
    assert (first.runs(handle), again.runs(handle)) == (True, True)
    until(lambda: "ann" in again.last_lines(handle))
    assert again.last_lines(handle) == "['run', '--quiet'] model: m ann"
    process = int(handle.split()[1])
    os.kill(process, 9)
    until(lambda: not first.runs(handle))
    assert not again.runs(handle)
    _, number, _, name = handle.split(" ", 3)
    assert not again.runs(f"process {os.getpid()} 1.00 {name}"), "another process with its number is none of ours"
    assert (again.runs(f"process {number} 1.00 {name}"), again.last_lines("process 1 1 none")) == (False, "")
    assert (again.runs("krona-mine-ab12"), again.last_lines("krona-mine-ab12")) == (False, "")


def test_a_new_driver_takes_the_gpus_that_those_which_run_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("krona_tune.api.driver_process.CODE", "import signal; print('on', flush=True); signal.pause()")
    monkeypatch.setattr(queue_drivers, "visible_gpus", lambda: ["0", "1", "2", "3"])
    first = LocalDrivers(tmp_path)
    turn = first.turn(2, {})
    assert turn == {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    handles = {}
    for name in ("one", "two"):
        handle = first.start(name, "", ["run"], "model: m", first.turn(2, handles))
        until(lambda handle=handle: first.last_lines(handle) == "on")
        handles[handle] = 2.0
    one, two = handles
    assert first.turn(1, {two: 2.0}) == turn, "the first driver has ended"
    again = LocalDrivers(tmp_path)  # of another service
    assert again.turn(1, {one: 2.0}) == {"CUDA_VISIBLE_DEVICES": "2,3,0,1"}
    for handle in handles:
        os.kill(int(handle.split()[1]), 9)
        until(lambda handle=handle: not first.runs(handle))
    assert again.turn(2, {one: 2.0}) == {"CUDA_VISIBLE_DEVICES": "2,3,0,1"}, "as if it had begun with the first one"
    monkeypatch.setattr(queue_drivers, "visible_gpus", lambda: ["0"])
    assert again.turn(1, handles) == {}


def test_what_can_not_be_started_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotStartedError, match="file"):
        LocalDrivers(tmp_path / "file").start("mine", "", ["run"], "model: m", {})


def test_a_request_travels_as_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = "model: m\n# “quoted” $HOME 'x'\n" * 500
    word = packed(space)
    assert word.isascii()
    assert not set(word) & set(" '\"$\\\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queue_drivers.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    monkeypatch.setattr(queue_drivers.atexit, "register", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["-c", word, "run", "--space", SPACE])
    unpack()
    assert (sys.argv, Path(SPACE).read_text(encoding="utf-8")) == (["-c", "run", "--space", SPACE], space)


def test_the_folder_of_a_request_goes_with_its_job(tmp_path: Path) -> None:
    code = f"from {queue_drivers.__name__} import unpack; unpack(); import os; print(os.listdir(), os.getcwd())"
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, packed("model: m")], env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"['{SPACE}'] {tmp_path}"), done
    assert list(tmp_path.iterdir()) == []


class Client:
    """Takes the place of Ray's client: it runs a job's command in a shell, as Ray does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said, self.fails = folder, "", False
        self.jobs: dict[str, JobStatus] = {}

    def submit_job(self, *, entrypoint: str, submission_id: str, metadata: dict[str, str]) -> str:
        done = subprocess.run(
            entrypoint,
            shell=True,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": os.defpath},
        )
        self.said, self.jobs[submission_id] = done.stdout, JobStatus.RUNNING
        if self.fails:
            raise ConnectionError("the answer was lost")
        return submission_id

    def get_job_status(self, handle: str) -> JobStatus:
        if handle not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: Job {handle} does not exist.")
        return self.jobs[handle]

    def get_job_logs(self, handle: str) -> str:
        return self.said


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[JobDrivers, Client]:
    code = "import os, sys; print(sys.argv[1:], open('space.yaml').read(), os.environ['WHO'], 'NONE' in os.environ)"
    monkeypatch.setattr(
        queue_drivers, "UNPACK", f"from krona_tune.service.queue.drivers import unpack; unpack(); {code}"
    )
    client = Client(tmp_path)
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: client)
    return JobDrivers("http://127.0.0.1:8265"), client


def test_a_job_unpacks_its_request_with_the_services_own_python(jobs: tuple[JobDrivers, Client]) -> None:
    drivers, client = jobs
    handle = drivers.handle("mine")
    words = ["run", "--name", "mine's", "--storage", "/a b"]
    assert drivers.start("mine", handle, words, "model: 'm'\n", {"WHO": "ann $HOME", "NONE": ""}) == handle
    assert client.said == f"{words} model: 'm'\n ann $HOME False\n"
    assert drivers.runs(handle)
    client.jobs[handle] = JobStatus.FAILED
    assert not drivers.runs(handle)
    assert not drivers.runs("krona-of-another-cluster")


def test_a_job_whose_answer_was_lost_counts_as_started(jobs: tuple[JobDrivers, Client]) -> None:
    drivers, client = jobs
    client.fails = True
    handle = drivers.handle("mine")
    assert drivers.start("mine", handle, [], "", {"WHO": "ann"}) == handle
    client.jobs.clear()
    client.submit_job = lambda **_: (_ for _ in ()).throw(ConnectionError("refused"))  # type: ignore[assignment]
    with pytest.raises(NotStartedError, match="refused"):
        drivers.start("mine", handle, [], "", {"WHO": "ann"})
