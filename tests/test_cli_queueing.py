"""Tests the commands about the queue, against a service whose drivers are not real."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from krona_tune import cli
from krona_tune.record.storage import storage_at
from krona_tune.service import Client
from krona_tune.service.queue.study_queue import StudyQueue
from tests.conftest import Run, Said
from tests.service.queue.test_dispatcher import FakeDrivers, Machine
from tests.service.test_live_events import served

SPACE = Path(__file__).resolve().parents[1] / "search_spaces" / "mini.yaml"
Ask = Callable[..., Said]


@pytest.fixture
def drivers(tmp_path: Path) -> FakeDrivers:
    return FakeDrivers(storage_at(str(tmp_path / "studies")))


@pytest.fixture
def address(drivers: FakeDrivers) -> Iterator[str]:
    queue = StudyQueue(drivers.storage, drivers, Machine(2), {"bo": 1}, pace=0.02)
    with served(drivers.storage, queue) as found:
        yield found


@pytest.fixture
def ask(run: Run, address: str) -> Ask:
    return lambda *words: run(*words, "--to", address, program=cli.main)


def test_a_study_is_submitted_listed_moved_removed_and_put_back(ask: Ask, address: str) -> None:
    status, out, err = ask("submit", SPACE, "--tasks", "cola,rte", "--name", "mine", "--priority", 2, "--by", "ann")
    assert (status, err) == (0, "")
    assert "trials  5 a task by TPE" in out
    assert f"mine is number 1 of the queue at {address}, with priority 2" in out
    _until(lambda: Client(address).queue().entries[0].state == "running")
    status, out, _ = ask("queue")
    assert "shared out: 2 CPUs; bo: at most 1 slots" in out
    assert [line.split()[:5] for line in out.splitlines() if "mine" in line] == [["1", "mine", "ann", "2", "running"]]
    assert ask("queue", "move", 1, "--priority", 7)[:2] == (0, "mine has priority 7 now\n")
    status, out, _ = ask("queue", "remove", 1)
    assert (status, out) == (0, "mine is asked to end; its trials are kept\n")
    assert ask("submit", SPACE, "--tasks", "cola", "--name", "other", "--cpus-per-trial", 2)[0] == 0
    assert ask("queue", "remove", 2)[1] in {"other is removed\n", "other is asked to end; its trials are kept\n"}


def test_a_dry_run_queues_nothing(ask: Ask, address: str) -> None:
    status, out, _ = ask("submit", SPACE, "--tasks", "cola", "--dry-run")
    assert (status, "by TPE" in out, "number" in out) == (0, True, False)
    assert Client(address).queue().entries == []
    assert ask("queue")[1].endswith("The queue is empty.\n")


def test_what_run_would_take_is_what_is_sent(ask: Ask, address: str, drivers: FakeDrivers, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "reviews.csv").write_text("text,label\n" + "".join(f"a book {n},{n % 2}\n" for n in range(40)))
    (own / "tasks.yaml").write_text("tasks:\n  reviews: {data: reviews.csv, text: text, label: label}\n")
    words = ("--tasks", own / "tasks.yaml", "--set", "adapter.scale=4", "--trials", 3, "--max-concurrent", 1)
    status, out, err = ask("submit", SPACE, *words, "--name", "mine", "--notify", "json://127.0.0.1:9")
    assert (status, err) == (0, ""), out
    _until(lambda: drivers.started)
    sent = drivers.storage.study("mine").spec.read_text(encoding="utf-8")
    assert str(own / "reviews.csv") in sent
    for said in ("scale: 4", "trials: 3", "max_concurrent: 1", "name: mine"):
        assert said in sent
    assert drivers.environments[0]["KRONA_TUNE_NOTIFY"] == "json://127.0.0.1:9"
    assert Client(address).queue().entries[0].slots == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("submit", SPACE, "--priority", 0), "--priority: 0 is none; write 1 to 10"),
        (("submit", SPACE, "--priority", 11), "--priority: 11 is none"),
        (("submit", "none.yaml"), "none.yaml: can't be read"),
        (("submit", SPACE, "--tasks", "colla"), "unknown task 'colla', did you mean 'cola'?"),
        (("submit", SPACE, "--name", "../x"), "'../x' is no name of a study"),
        (("submit", SPACE, "--set", "search.trials=0"), "search.trials"),
        (("submit", SPACE, "--tasks", "cola", "--cpus-per-trial", 64), "64 asked, the largest node has 2"),
        (("queue", "mvoe", 1), "ACTION: unknown action 'mvoe', did you mean 'move'?"),
        (("queue", "move"), "move: needs the number of an entry; write krona-tune queue move 3"),
        (("queue", "move", 1), "--priority: is missing"),
        (("queue", "move", 1, "--priority", 99), "--priority: 99 is none"),
        (("queue", "remove", 1, "--priority", 2), "--priority: remove takes none"),
        (("queue", "remove", 9), "unknown entry '9'"),
    ],
)
def test_what_makes_no_sense_is_refused(ask: Ask, address: str, words: tuple[object, ...], said: str) -> None:
    status, _, err = ask(*words)
    assert status == 2
    assert said in err
    assert Client(address).queue().entries == []


def test_a_service_that_is_not_there_is_named(run: Run) -> None:
    status, _, err = run("queue", "--to", "http://127.0.0.1:9", program=cli.main)
    assert (status, "http://127.0.0.1:9: gives no answer" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--limit", "ann"), "--limit: 'ann' gives nobody a number of slots; write --limit ann=4"),
        (("--limit", "ann=0"), "--limit: 'ann=0' gives nobody"),
        (("--address", "host:6379"), "--address: 'host:6379' is no address of a dashboard"),
        (("--address", "http://127.0.0.1:9"), "--address: the cluster at http://127.0.0.1:9 gives no answer"),
    ],
)
def test_serve_refuses_an_odd_queue(run: Run, words: tuple[str, ...], said: str) -> None:
    status, _, err = run("serve", "--port", 0, *words, program=cli.main)
    assert status == 2
    assert said in err


def _until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
