"""Tests a study in one line: its state, its progress and its scores."""

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from krona_tune.study.folder import StudyFolder
from tests.report.pages import BY_LOSS, NEGATED, page_of, write_scores
from tests.service.conftest import drive, make_study


def test_the_index_lists_the_newest_first_with_what_each_study_is_and_found(
    client: TestClient, study: StudyFolder, running: StudyFolder
) -> None:
    text = page_of(client.get("/").text).text
    assert text.index("running running") < text.index("first stopped")
    assert "running running 3 of 9 1 min 15 s 0.600 synthetic 0.200 +0.400 COLA" in text
    assert re.search(r"first stopped 3 of \d+ – 0.600 0.200 \+0.400 COLA 0.00 2026-01-01 03:04 UTC", text)


def test_a_paused_study_says_so(client: TestClient, study: StudyFolder) -> None:
    lock = drive(study, paused=True)
    assert "first paused 3 of 9" in page_of(client.get("/").text).text
    text = page_of(client.get("/studies/first").text).text
    lock.release()
    assert "No further trial begins until the study continues" in text
    assert "Continue" in text


def test_a_study_that_can_not_be_read_says_why_and_breaks_no_other(
    client: TestClient, root: Path, study: StudyFolder
) -> None:
    damaged = make_study(root / "damaged", 3)
    damaged.manifest.write_text("{")
    unreadable = make_study(root / "unreadable", 4)
    (unreadable.results / "trials.parquet").write_bytes(b"PAR1")
    gone = make_study(root / "gone", 5)
    gone.spec.unlink()
    text = page_of(client.get("/").text).text
    assert "damaged unreadable manifest.json: is damaged" in text
    assert "unreadable unreadable trials.parquet: can't be read" in text
    assert "first stopped" in text
    for name in ("damaged", "unreadable"):
        answer = client.get(f"/studies/{name}")
        assert answer.status_code == 422
        assert "json" in answer.text or "parquet" in answer.text
    assert client.get("/studies/gone").status_code == 200


def test_the_index_averages_what_has_a_mean_and_a_task_alone_has_its_own_score(
    client: TestClient, root: Path, study: StudyFolder
) -> None:
    mixed, alone, neither = (StudyFolder(root / name) for name in ("mixed", "alone", "neither"))
    write_scores(mixed, {"wiki": -12.3, "mrpc": 0.7, "sst2": 0.9}, wiki=NEGATED)
    write_scores(alone, {"wiki": -12.3}, wiki=NEGATED)
    write_scores(neither, {"wiki": -12.3, "news": -2.3}, wiki=NEGATED, news=BY_LOSS)
    best = {each["name"]: each["best"] for each in client.get("/api/studies").json()}
    assert best == {"mixed": pytest.approx(0.8), "alone": -12.3, "neither": None, "first": 0.6}
