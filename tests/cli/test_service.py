"""Tests the commands of the service and its queue: what they refuse, what they send, and that Ctrl-C ends a service."""

import builtins
import json
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from krona_tune import cli
from krona_tune.record.storage import storage_at
from krona_tune.service import Client
from krona_tune.service.queue.study_queue import StudyQueue
from tests.conftest import Run, Said
from tests.service.conftest import make_study
from tests.service.queue.fakes import FakeDrivers, Machine
from tests.service.serving import served
from tests.waiting import until

SPACE = Path(__file__).resolve().parents[2] / "search_spaces" / "mini.yaml"
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
    until(lambda: Client(address).queue().entries[0].state == "running")
    status, out, _ = ask("queue")
    assert "shared out: 2 CPUs; bo: at most 1 slot" in out
    assert [line.split()[:5] for line in out.splitlines() if "mine" in line] == [["1", "mine", "ann", "2", "running"]]
    assert ask("queue", "move", 1, "--priority", 7)[:2] == (0, "mine has priority 7 now\n")
    status, out, _ = ask("queue", "remove", 1)
    assert (status, out) == (0, "mine is asked to end; its trials are kept\n")
    assert ask("submit", SPACE, "--tasks", "cola", "--name", "other", "--cpus-per-trial", 2)[0] == 0
    assert ask("queue", "remove", 2)[1] in {"other is removed\n", "other is asked to end; its trials are kept\n"}


@pytest.mark.slow
def test_without_a_space_the_service_makes_one_for_what_its_queue_has(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "books.csv").write_text("".join(["text,label\n", *(f"book {n},{n % 2}\n" for n in range(400))]))
    own = tmp_path / "books.yaml"
    own.write_text("tasks: {books: {data: books.csv, text: text, label: label}}")
    status, out, err = ask("submit", "--tasks", own, "--trials", 3, "--dry-run")
    assert (status, err) == (0, "")
    assert "space   auto (made for model, data and machine; the queue has " in out
    assert "trials  3 a task" in out
    status, _, err = ask("submit", "--tasks", own, "--trials", 0, "--dry-run")
    assert (status, err.partition(";")[0]) == (2, "--trials: 0 is refused")


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
    until(lambda: drivers.started)
    sent = drivers.storage.study("mine").spec.read_text(encoding="utf-8")
    assert str(own / "reviews.csv") in sent
    for said in ("scale: 4", "trials: 3", "max_concurrent: 1", "name: mine"):
        assert said in sent
    assert drivers.environments[0]["KRONA_TUNE_NOTIFY"] == "json://127.0.0.1:9"
    assert Client(address).queue().entries[0].slots == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("submit", SPACE, "--priority", 0), "--priority: 0 is none; write --priority and a number from 1 to 10"),
        (("submit", SPACE, "--priority", 11), "--priority: 11 is none; write --priority and a number from 1 to 10"),
        (
            ("submit", "none.yaml"),
            "none.yaml: can't be read: No such file or directory; give a YAML file that can be read",
        ),
        (("submit", SPACE, "--tasks", "colla"), "unknown task 'colla', did you mean 'cola'?"),
        (
            ("submit", SPACE, "--name", "../x"),
            "'../x' is no name of a study; use letters, digits, '.', '_' and '-'",
        ),
        (("submit", SPACE, "--set", "search.trials=0"), "--set search.trials: 0 is refused; "),
        (
            ("submit", SPACE, "--tasks", "cola", "--cpus-per-trial", 64),
            "--cpus-per-trial: 64 asked, the largest node has 2; ask for at most 2",
        ),
        (("queue", "mvoe", 1), "ACTION: unknown action 'mvoe', did you mean 'move'?"),
        (("queue", "move"), "move: needs the number of an entry; write krona-tune queue move 3"),
        (("queue", "move", 1), "--priority: is missing; write --priority and a number from 1 to 10"),
        (("queue", "move", 1, "--priority", 99), "--priority: 99 is none; write --priority and a number from 1 to 10"),
        (("queue", "remove", 1, "--priority", 2), "--priority: remove takes none; leave it out"),
        (("queue", "--priority", 5), "--priority: a list of the queue takes none; leave it out, or write move 3"),
        (("queue", "remove", 9), "the queue: unknown entry '9'; known: "),
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
        (("--data-root", "none"), "--data-root: none is no folder that can be read; name a folder of data"),
        (("--address", "host:6379"), "--address: 'host:6379' is no address of a dashboard"),
        (("--address", "http://127.0.0.1:9"), "--address: the cluster at http://127.0.0.1:9 gives no answer"),
    ],
)
def test_serve_refuses_an_odd_queue(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS")  # Ray would look for 40 seconds there, whatever address it is given
    status, _, err = run("serve", "--port", 0, *words, program=cli.main)
    assert status == 2
    assert said in err


def test_a_host_that_others_reach_needs_a_token(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KRONA_TUNE_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "example.org"):
        status, _, said = run("serve", "--host", host, "--port", 0, program=cli.main)
        assert status == 2
        assert f"--host: {host} can be reached by other machines, and there is no token; give a token" in said
    monkeypatch.setenv("KRONA_TUNE_TOKEN", "short")
    status, _, said = run("serve", "--host", "0.0.0.0", "--port", 0, program=cli.main)
    assert (status, "KRONA_TUNE_TOKEN: the token has 5 characters" in said) == (2, True)


def test_a_token_file_that_can_not_be_read_is_refused(run: Run, tmp_path: Path) -> None:
    status, _, said = run("serve", "--token-file", tmp_path / "none", program=cli.main)
    assert (status, "none: is no file; name a text file" in said) == (2, True)


def test_a_port_that_is_taken_is_refused(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, said = run("serve", "--port", port, program=cli.main)
    assert (status, f"--port: 127.0.0.1 port {port} can't be used (Address already in use)" in said) == (2, True)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a b", "x" * 70 + ".org", "999.1.1.1"])
def test_an_odd_host_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("KRONA_TUNE_TOKEN", "x" * 16)
    status, _, said = run("serve", "--host", host, "--port", 0, program=cli.main)
    assert (status, "--host: " in said) == (2, True)


def test_a_storage_that_is_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, said = run("serve", "--storage", tmp_path / "file", program=cli.main)
    assert (status, "is no folder" in said) == (2, True)


def test_without_the_extra_the_command_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def lacking(name: str, *words: Any) -> Any:
        if name.partition(".")[0] in {"uvicorn", "krona_tune"} and "web_server" in (words[2] or ()):
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return original(name, *words)

    monkeypatch.setattr(builtins, "__import__", lacking)
    status, _, said = run("serve", program=cli.main)
    assert (status, "pip install 'krona_tune[service]'" in said) == (2, True)


@pytest.mark.slow
def test_ctrl_c_ends_it_at_once_with_open_pages_and_its_queue_wants_the_token(tmp_path: Path) -> None:
    study = make_study(tmp_path / "studies" / "first")
    code = "from krona_tune.cli import program; program()"
    words = ["serve", "--storage", str(study.root.parent), "--port", "0"]
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        address = process.stdout.readline().split(" at ")[1].split()[0]
        file = Path(process.stdout.readline().partition("the token in ")[2].partition(";")[0])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert requests.get(f"{address}/api/queue", timeout=20).status_code == 401
        assert Client(address).queue().entries == []
        headers = {"Authorization": f"Bearer {json.loads(file.read_text())['token']}"}
        events = f"{address}/studies/first/events"
        with requests.get(events, headers=headers, stream=True, timeout=20) as answer:
            assert next(answer.iter_lines(chunk_size=1))
            process.send_signal(signal.SIGINT)
            status = process.wait(120)  # while the page is open
        assert status in {0, 130}
        assert process.stderr.read() == ""
