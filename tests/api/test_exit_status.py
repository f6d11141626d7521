"""Tests that the numbers of the exit statuses stay, for scripts read them, and that they say what happened to Ray."""

import signal

from krona_tune.api.exit_status import ENDED_WELL, ExitStatus


def test_the_numbers_are_those_that_scripts_know() -> None:
    assert {each.name: each.value for each in ExitStatus} == {
        "DONE": 0,
        "NO_RESULT": 1,
        "REFUSED": 2,
        "NOT_NOW": 69,
        "CRASHED": 70,
        "UNWRITTEN": 74,
        "RAY_LOST": 75,
        "INTERRUPTED": 128 + signal.SIGINT,
    }


def test_a_study_that_lacked_its_ray_or_failed_did_not_end_well() -> None:
    assert {0, 1, 130} == ENDED_WELL
