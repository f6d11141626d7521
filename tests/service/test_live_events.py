"""Tests that open pages hear of what has changed, once, and of nothing else."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import requests
from starlette.testclient import TestClient

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.service import live_events
from krona_tune.service.live_events import News, events
from krona_tune.study.folder import StudyFolder
from tests.record.events import started
from tests.service.conftest import end, note
from tests.service.serving import served


def heard(news: list[News | Refusal], since: str = "") -> list[str]:
    """Returns the events that a page hears while these are the news of successive looks."""
    left = iter(news)

    def look() -> News:
        found = next(left)
        if isinstance(found, Refusal):
            raise found
        return found

    async def listen() -> list[str]:
        stream: AsyncIterator[str] = events(look, since, lambda: False, seconds=0.0)
        said: list[str] = []
        try:
            async for each in stream:
                said.append(each)
        except RuntimeError:  # the news have ended
            return said
        return said

    return asyncio.run(listen())[1:]


def test_only_a_change_is_told() -> None:
    news: list[News | Refusal] = [News(stamp="a", now="x"), News(stamp="a", now="x"), News(stamp="b", now="x\ny")]
    assert heard(news, since="a") == [
        "event: now\ndata: x\n\n",
        "event: now\ndata: x\ndata: y\n\n",
        "event: changed\nid: b\ndata: b\n\n",
    ]


def test_a_page_that_is_older_hears_so_at_once() -> None:
    assert heard([News(stamp="b")], since="a") == ["event: changed\nid: b\ndata: b\n\n"]


def test_a_change_waits_until_the_page_may_be_drawn_again() -> None:
    assert heard([News(stamp=None), News(stamp="b")], since="a") == ["event: changed\nid: b\ndata: b\n\n"]


def test_a_quiet_stream_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_events, "KEEP_ALIVE", 2)
    assert heard([News(stamp="a")] * 5, since="a") == [": still here\n\n"] * 2


def test_a_study_that_can_not_be_read_any_more_changes_its_page_once() -> None:
    said = heard([News(stamp="a"), Refusal("x", "y"), Refusal("x", "y"), News(stamp="a")], since="a")
    assert [each.splitlines()[-2] for each in said] == ["data: unreadable-a", "data: a"]


@pytest.mark.slow
def test_an_open_page_hears_of_a_trials_progress_and_end(storage: Storage, running: StudyFolder) -> None:
    with served(storage) as address:
        with requests.get(f"{address}/studies/running/events", stream=True, timeout=20) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines(chunk_size=1, decode_unicode=True)
            next(line for line in lines if "25 %" in line)
            next(line for line in lines if line == "event: changed")
            note(running, started(7), 0.75)
            next(line for line in lines if "75 %" in line)
            end(ParquetSink(running.results), started(8), 0.7)
            next(line for line in lines if line == "event: changed")
        assert "cola-0008" in requests.get(f"{address}/studies/running/main", timeout=20).text


def test_events_of_no_study_are_refused_before_they_begin(client: TestClient) -> None:
    assert client.get("/studies/none/events").status_code == 404


def test_too_many_open_pages_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_events, "MOST_STREAMS", 0)
    assert client.get("/events").status_code == 422
