"""Tests a study's end on the screen and in the exit status, and that Ray stops before the study's lock is released."""

import logging
import sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from krona_tune.api import study_run
from krona_tune.cli.ending import command_of, this_command
from krona_tune.record.ownership import is_locked
from krona_tune.record.sink import NullSink
from krona_tune.refusal import NotNow, Refusal
from krona_tune.search import driver
from krona_tune.search.driver_options import DriverOptions, Outcome
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan
from krona_tune.search.start_options import StartOptions
from krona_tune.search.startup import begin_study, cluster, preflight
from krona_tune.search.startup.preflight import Findings
from krona_tune.search.terminal import result_tables
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.study_spec import ResourcesSpec, StudySpec
from tests.conftest import Run
from tests.record.events import manifest

FOLDER = StudyFolder(Path("studies/x"))


@pytest.mark.parametrize(
    ("program", "command", "resumes"),
    [
        ("run_study.py", "python run_study.py --trials 2", "python run_study.py --resume x"),
        ("/lib/krona_tune/__main__.py", "python -m krona_tune --trials 2", "python -m krona_tune resume x"),
        ("/bin/krona-tune", "python /bin/krona-tune --trials 2", "krona-tune resume x"),
        ("-c", "krona-tune --trials 2", "krona-tune resume x"),
    ],
)
def test_a_command_is_told_as_it_can_be_given(
    program: str, command: str, resumes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "--trials", "2"])
    assert (this_command(), study_run.resume_command(FOLDER)) == (command, resumes)


def outcome(best: object = "a trial", **more: Any) -> Outcome:
    """Returns the end of a study; only the best trials can be asked for."""
    ledger: Any = SimpleNamespace(rows={}, standings=SimpleNamespace(best=lambda task: best))
    return Outcome(**{"ledger": ledger, "tasks": ("cola",), "lost_sinks": {}, **more})


@pytest.fixture
def program(run: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `run_study.py` on a study with a given outcome; tells also whether the study was locked when Ray stopped."""
    space = tmp_path / "x.yaml"
    space.write_text(f"model: {model}\ndata: mini\nadapter: {{a_out: 8, a_in: 8}}\n", encoding="utf-8")
    locked: list[bool] = []
    nothing = SimpleNamespace(
        manifest=SimpleNamespace(tasks={}), price=None, folder=FOLDER, plan=SimpleNamespace(spec=StudySpec(model="m"))
    )
    nothing.computing_in = lambda precision: nothing
    monkeypatch.setattr(cluster, "connecting", lambda address, asked: Future())
    monkeypatch.setattr(begin_study, "gather_resources", lambda plan, workers: nothing)
    monkeypatch.setattr(begin_study, "begin_study", lambda *of, **how: nothing)
    monkeypatch.setattr(preflight, "run_preflight", lambda *asked: Findings())
    monkeypatch.setattr(result_tables, "build_result_tables", lambda ledger, tasks, search: "the ranking")
    monkeypatch.setattr(study_run, "print_started", lambda *said: None)

    def end_at_once(status: int) -> None:
        locked.append(status)
        raise SystemExit(status)

    monkeypatch.setattr("krona_tune.cli.os._exit", end_at_once)

    def logged(end: Outcome) -> Outcome:
        logging.getLogger("krona_tune").warning("a study ends")
        return end

    def ended(end: Outcome) -> tuple[int, str, list[Any]]:
        monkeypatch.setattr(
            driver,
            "Driver",
            lambda *of: SimpleNamespace(run=lambda write_page: logged(end), ledger=Ledger(None, NullSink(), [])),
        )
        monkeypatch.setattr(cluster, "leave_ray", lambda *, lost: locked.append(is_locked(FOLDER)))
        status, out, err = run("--space", str(space), "--tasks", "cola", "--name", "x")
        return status, out + err, locked

    return ended


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        (outcome(), 0, "the ranking"),
        (outcome(None), 1, "the ranking"),
        (outcome(asked=True), 130, "Interrupted. Resume with: krona-tune resume x"),
        (outcome(no_page="UndefinedError: 'None' has no attribute 'best'"), 0,
         "the page could not be written: UndefinedError: 'None' has no attribute 'best'; krona-tune report x draws it"),
        (outcome(lacking=("adapters/cola: the state of cola-003 is gone, so there is none",)), 0,
         "an adapter could not be written: adapters/cola: the state of cola-003 is gone, so there is none; "
         "krona-tune train x --trial ID trains a configuration again"),
        (outcome(halted="the adapters could not be written: OSError: [Errno 28] No space left on device"), 130,
         "Stopped, the adapters could not be written: OSError: [Errno 28] No space left on device. When that is fixed, "
         "resume with: krona-tune resume x"),
    ],
)  # fmt: skip
def test_a_study_ends_with_its_status_and_ray_stops_while_it_is_locked(
    program: Any, end: Outcome, status: int, said: str
) -> None:
    found, text, locked = program(end)
    assert (found, locked) == (status, [True])
    assert said in text
    assert not is_locked(FOLDER)


@pytest.mark.parametrize(
    ("asked", "status", "why"), [(False, 75, "Stopped, Ray's raylet ended."), (True, 130, "Interrupted.")]
)
def test_a_study_that_lost_its_ray_ends_before_rays_own_exit_handlers(
    program: Any, asked: bool, status: int, why: str
) -> None:
    found, text, told = program(outcome(asked=asked, lost="Ray's raylet ended"))
    assert (found, told) == (status, [True, status])
    assert f"{why} Resume with: krona-tune resume x" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_whose_disk_is_full_ends_no_program(program: Any) -> None:
    FOLDER.root.mkdir(parents=True)
    FOLDER.log.symlink_to("/dev/full")
    status, text, _ = program(outcome())
    assert status == 0
    assert "Logging error" not in text


@pytest.mark.parametrize(("asked", "precision"), [("auto", "bf16"), ("fp32", "fp32")])
def test_a_plan_computes_in_what_its_study_was_begun_in(
    model: str, tmp_path: Path, asked: Any, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = StudySpec.model_validate({"model": model, "tasks": ["rte"], "data": "mini", "precision": asked})
    folder, found = StudyFolder(tmp_path), list[str]()

    def gather(plan: Plan, workers: object) -> None:
        found.append(plan.precision)
        raise NotNow("Ray", "it is enough to know the plan")

    monkeypatch.setattr(cluster, "connecting", lambda address, asked: Future())
    monkeypatch.setattr(begin_study, "gather_resources", gather)
    for _ in range(2):
        with pytest.raises(NotNow):
            study_run.run_and_report(spec, "here", "", folder, DriverOptions(start=StartOptions(quiet=True)))
        manifest("rte").model_copy(update={"precision": "bfloat16"}).write(folder.manifest)
    assert found == [asked, precision]


def test_a_start_that_is_refused_leaves_ray(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = StudySpec.model_validate({"model": model, "tasks": ["rte"], "data": "mini"})
    workers, left = Future[object](), list[object]()

    def refuse(*_: object) -> None:
        raise Refusal("--storage", "is full")

    monkeypatch.setattr(cluster, "connecting", lambda address, asked: workers)
    monkeypatch.setattr(cluster, "abandon", left.append)
    monkeypatch.setattr(begin_study, "gather_resources", refuse)
    with pytest.raises(Refusal, match="is full"):
        study_run.run_and_report(spec, "here", "", StudyFolder(tmp_path), DriverOptions(start=StartOptions(quiet=True)))
    assert left == [workers]


@pytest.mark.parametrize(
    ("words", "begun"),
    [
        (("--name", "next"), "no study was begun, give the same command again later"),
        (("--resume", "x"), "the study is as it was, try again later: krona-tune resume x"),
    ],
)
def test_a_ray_that_does_not_start_now_ends_with_a_status_of_its_own(
    run: Run, monkeypatch: pytest.MonkeyPatch, model: str, tmp_path: Path, words: tuple[str, str], begun: str
) -> None:
    """The request is right, and a script may give it again."""

    def failed(address: str | None, asked: ResourcesSpec) -> "Future[object]":
        assert (address, asked.nice) == (None, 4)
        found: Future[object] = Future()
        found.set_exception(NotNow("Ray", "it could not be started here in 3 tries", "its logs: /tmp/ray/session/logs"))
        return found

    monkeypatch.setattr(cluster, "connecting", failed)
    monkeypatch.setattr(begin_study, "download", lambda source: SimpleNamespace(location="here"))
    monkeypatch.setattr(begin_study, "prepare_data", lambda plan, location: "the data")
    space = tmp_path / "space.yaml"
    space.write_text(f"model: {model}\ntasks: [cola]\ndata: mini\nresources: {{nice: 4}}\n", encoding="utf-8")
    FOLDER.root.mkdir(parents=True)
    FOLDER.spec.write_bytes(space.read_bytes())
    manifest("cola").write(FOLDER.manifest)
    status, _, err = run(*words, *(("--space", space) if "--name" in words else ()))
    said = "Ray: it could not be started here in 3 tries; its logs: /tmp/ray/session/logs"
    assert (status, err) == (69, f"{said}; {begun}\n")


@pytest.mark.parametrize(
    ("begun", "command"),
    [(False, "krona-tune run --space study.yaml --name first"), (True, "krona-tune resume first")],
)
def test_what_a_queue_has_started_is_told_as_a_person_would_type_it(begun: bool, command: str) -> None:
    assert command_of(StudyFolder(Path("studies/first")), begun=begun) == command
