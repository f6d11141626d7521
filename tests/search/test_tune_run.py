"""Tests that a study waits for Tune's run while Ray exists, and ends in order however the run ends."""

import errno
import threading

import pytest

from krona_tune.search import tune_host
from krona_tune.search.budget import Amount, Budget
from krona_tune.search.study_stopper import StudyStopper


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> StudyStopper:
    monkeypatch.setattr(tune_host, "WATCH_SECONDS", 0.01)
    return StudyStopper(Budget(), Amount)


def test_a_run_that_ends_well_stops_nothing(stopping: StudyStopper) -> None:
    done = []
    tune_host.watched(lambda: done.append(threading.current_thread().name), lambda: None, stopping)
    assert done == ["tune"]
    assert not stopping.interrupted


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "Tune's state could not be kept: [Errno 28] No space left"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "Ray Tune failed: ConnectionRefusedError: "),
        (FileNotFoundError(errno.ENOENT, "gone"), "Ray Tune failed: FileNotFoundError: "),
        (RuntimeError("an actor died\nmore"), "Ray Tune failed: RuntimeError: an actor died"),
    ],
)
def test_a_run_that_fails_halts_the_study_and_says_why(stopping: StudyStopper, error: Exception, reason: str) -> None:
    def fails() -> None:
        raise error

    tune_host.watched(fails, lambda: None, stopping)
    assert stopping.halted.startswith(reason)
    assert not stopping.lost


def test_a_run_on_a_ray_that_is_lost_is_abandoned(stopping: StudyStopper) -> None:
    forever, looks = threading.Event(), iter([None, None, "Ray's raylet ended"])
    tune_host.watched(forever.wait, lambda: next(looks), stopping)
    assert (stopping.lost, stopping.halted) == ("Ray's raylet ended", "")
    forever.set()


def test_a_run_that_fails_since_ray_is_lost_is_abandoned_too(stopping: StudyStopper) -> None:
    failed = threading.Event()

    def fails() -> None:
        failed.set()
        raise RuntimeError("the owner died")

    tune_host.watched(fails, lambda: "Ray's gcs_server ended" if failed.is_set() else None, stopping)
    assert (stopping.lost, stopping.halted) == ("Ray's gcs_server ended", "")


def test_a_second_request_to_stop_abandons_the_run(stopping: StudyStopper) -> None:
    forever = threading.Event()

    def pressed() -> str | None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_host.watched(forever.wait, pressed, stopping)
    assert stopping.lost
    forever.set()
