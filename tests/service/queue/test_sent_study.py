"""Tests what is sent to a service in place of what a person wrote: whole paths, and values that JSON has."""

from datetime import date
from pathlib import Path

import pytest

from krona_tune.data.tasks import GLUE
from krona_tune.refusal import Refusal
from krona_tune.service.queue.sent_study import submission_of
from krona_tune.study.request.given_values import GivenValue
from krona_tune.study.request.loader import parse_spec
from tests.service.queue.conftest import SPACE


@pytest.fixture
def teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GivenValue:
    """A file of curves and a study's folder in the working folder, and a study's name."""
    monkeypatch.chdir(tmp_path)
    Path("first.parquet").touch()
    Path("old").mkdir()
    Path("old/study.yaml").touch()
    return GivenValue("search.warm_start", ["first.parquet", "./old", "second"], "--warm-start")


@pytest.mark.parametrize("space", [None, SPACE])
def test_teachers_that_lie_here_are_sent_with_their_whole_paths(
    space: Path | None, teachers: GivenValue, tmp_path: Path
) -> None:
    whole = [str(tmp_path / "first.parquet"), str(tmp_path / "old"), "second"]
    sent = submission_of("mine", space, [GivenValue("tasks", ["cola"], "--tasks"), teachers])
    if space:
        assert list(parse_spec(sent.space, "space", Path("/")).search.warm_start or ()) == whole
    else:
        assert sent.given[1].value == whole


def test_tasks_that_words_name_are_sent_without_a_space() -> None:
    """Words are a tuple, for which pydantic knows no JSON."""
    sent = submission_of("mine", None, [GivenValue("tasks", ("cola", "rte"), "--tasks")])
    assert sent.given[0].value == ["cola", "rte"]


@pytest.mark.parametrize("value", [float("inf"), [1.0, float("nan")], date(2026, 1, 2)])
def test_a_value_that_would_arrive_as_another_is_refused(value: object) -> None:
    with pytest.raises(Refusal, match=r"^--set training.clip_norm: .* can't be sent"):
        submission_of("mine", None, [GivenValue("training.clip_norm", value, "--set training.clip_norm")])


def test_a_gain_that_nobody_has_written_is_not_sent(tmp_path: Path) -> None:
    """Else the service took it for a written one, of a metric in any unit."""
    sent = submission_of("mine", SPACE, [GivenValue("search.stop", "auto", "--set search.stop")])
    assert "least_gain" not in parse_spec(sent.space, "space", Path("/")).search.model_fields_set
    given = [GivenValue("search.stop", "auto", "--set"), GivenValue("search.least_gain", 0.02, "--set")]
    sent = submission_of("mine", SPACE, given)
    assert "least_gain" in parse_spec(sent.space, "space", Path("/")).search.model_fields_set


def test_a_study_without_words_is_one_of_glue(tmp_path: Path) -> None:
    (asked,) = submission_of("mine", None, []).given
    assert (asked.key, asked.value, asked.by) == ("tasks", list(GLUE), "--tasks")


def test_more_than_a_queue_takes_is_refused_before_it_is_sent() -> None:
    many = tuple(f"json://localhost:{port}" for port in range(11))
    with pytest.raises(Refusal, match=r"^--notify: .*at most 10.*; send less"):
        submission_of("mine", None, [], notify=many)
