"""Tests that Ray is started again if it does not start, without what the last try left, and without a dashboard."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray._private import parameter, worker  # private: what `search/ray_internals.py` uses

from krona_tune.refusal import NotNow
from krona_tune.search.ray_internals import session_logs
from krona_tune.search.startup.cluster import LIMITS, NICE, start_patiently

TIMED_OUT = "The current node timed out during startup."
WAITS = "import sys; print(flush=True); sys.stdin.read()"


class FakeRay:
    """Takes the place of `ray.init`: starts a head and a dashboard, fails as often as it is told, and then is there."""

    def __init__(self, failures: int, dashboard: str) -> None:
        self.failures, self.dashboard = failures, dashboard
        self.sessions: list[str] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.forgotten = 0

    def init(self, **options: Any) -> SimpleNamespace:
        assert options["logging_level"] == logging.CRITICAL, "what Ray says of a try that failed is not shown"
        session = parameter.RayParams.keywords["session_name"]
        self.sessions.append(session)
        for program in ("head", "dashboard.py"):
            command = [sys.executable, "-c", WAITS, program, f"--log-dir=/somewhere/{session}/logs"]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()
            self.processes[f"{program} {session}"] = process
        if len(self.sessions) <= self.failures:
            raise RuntimeError(f"{TIMED_OUT}\nMore of Ray's words.")
        return SimpleNamespace(dashboard_url=self.dashboard)

    def shutdown(self) -> None:
        self.forgotten += 1

    @property
    def running(self) -> set[str]:
        return {name for name, process in self.processes.items() if process.poll() is None}


@pytest.fixture
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRay]:
    for name in (*LIMITS, NICE):
        monkeypatch.setenv(name, "7")
        monkeypatch.delenv(name)
    made = FakeRay(*request.param)
    monkeypatch.setattr("ray.init", made.init)
    monkeypatch.setattr("ray.shutdown", made.shutdown)
    # private: what `search/ray_internals.py` uses
    monkeypatch.setattr(worker, "_global_node", SimpleNamespace(live_processes=list))
    yield made
    for process in made.processes.values():
        with process:
            process.kill()


@pytest.mark.parametrize("fake", [(0, "a:1"), (1, "a:1"), (2, "a:1")], indirect=True)
def test_a_ray_that_does_not_start_is_started_again(fake: FakeRay, caplog: pytest.LogCaptureFixture) -> None:
    assert start_patiently(0).dashboard_url == "a:1"
    assert len(set(fake.sessions)) == fake.failures + 1
    assert fake.running == {f"{program} {fake.sessions[-1]}" for program in ("head", "dashboard.py")}
    assert fake.forgotten == fake.failures
    assert [record.getMessage() for record in caplog.records] == [
        f"Ray did not start (RuntimeError: {TIMED_OUT}); its logs: {session_logs(tried)}; trying again"
        for tried in fake.sessions[:-1]
    ]
    assert logging.getLogger("ray").level == logging.ERROR


@pytest.mark.parametrize("fake", [(3, "")], indirect=True)
def test_a_ray_that_never_starts_leaves_nothing_and_names_the_logs_of_the_last_try(fake: FakeRay) -> None:
    with pytest.raises(NotNow) as refused:
        start_patiently(0)
    assert len(fake.sessions) == 3
    assert not fake.running
    assert str(refused.value) == (
        f"Ray: it could not be started here in 3 tries (RuntimeError: {TIMED_OUT}); "
        f"its logs: {session_logs(fake.sessions[-1])}"
    )


@pytest.mark.parametrize("fake", [(0, "")], indirect=True)
def test_a_study_goes_on_without_a_dashboard_that_does_not_start(
    fake: FakeRay, caplog: pytest.LogCaptureFixture
) -> None:
    start_patiently(0)
    (session,) = fake.sessions
    assert fake.running == {f"head {session}"}
    said = "Ray's dashboard did not start, the study goes on without; its logs: "
    assert caplog.messages == [said + str(session_logs(session))]


@pytest.mark.parametrize("fake", [(0, "a:1")], indirect=True)
def test_workers_get_the_priority_that_is_asked_for_and_ray_more_time_than_it_takes_itself(
    fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, *others = LIMITS
    monkeypatch.setenv(chosen, "5")
    start_patiently(3)
    assert {name: os.environ[name] for name in (NICE, chosen)} == {NICE: "3", chosen: "5"}
    assert {name: int(os.environ[name]) for name in others} == {name: LIMITS[name] for name in others}
