"""Tests that the client reads what a service answers, gives orders, and tells refusals as such."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from krona_tune.child_process import START_SECONDS
from krona_tune.record.orders import waiting_orders
from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.service import Client, ExportRequest, client
from krona_tune.service.queue.entry import Submission
from krona_tune.service.queue.study_queue import TURN_SECONDS
from krona_tune.service.queue.submission_check import CHECK_SECONDS
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import OrderRequest
from tests.service.serving import served


@pytest.fixture
def asked(storage: Storage) -> Iterator[Client]:
    with served(storage) as address:
        yield Client(address + "/")


def test_studies_are_read_and_ordered_through_a_service(asked: Client, study: StudyFolder) -> None:
    assert [(each.name, each.best) for each in asked.studies()] == [("first", 0.6)]
    assert asked.study("first").running == []
    assert [row["trial_id"] for row in asked.trials("first", task="cola")] == ["cola-0000", "cola-0001", "cola-0002"]
    order = asked.order("first", OrderRequest(what="trials", value="+20"))
    with pytest.raises(Refusal, match="time-budget soon: 'soon' is refused"):
        asked.order("first", OrderRequest(what="time_budget", value="soon"))
    assert waiting_orders(study) == [order]


def test_what_the_service_refuses_is_a_refusal(asked: Client, study: StudyFolder) -> None:
    for name in ("none", "../x", "a/b"):
        with pytest.raises(Refusal):
            asked.study(name)
    study.manifest.write_text("{")
    with pytest.raises(Refusal, match="is damaged"):
        asked.trials("first")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nowhere", "file:///etc/passwd", "http://[bad"])
def test_a_service_that_is_not_there_is_a_refusal(url: str) -> None:
    with pytest.raises(Refusal):
        Client(url).studies()


@pytest.mark.parametrize(
    "url", ["http://me:hunter2@127.0.0.1:9", "http://127.0.0.1:9/?token=hunter2", "ftp://me:hunter2@127.0.0.1"]
)
def test_a_refusal_masks_the_secrets_of_an_address(url: str) -> None:
    with pytest.raises(Refusal, match=r"127\.0\.0\.1") as refused:
        Client(url, "").remove(1)
    assert "hunter2" not in str(refused.value)


def test_a_submission_waits_longer_than_its_service_works_and_then_says_where_to_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert client.SUBMIT_SECONDS > TURN_SECONDS + START_SECONDS + CHECK_SECONDS
    monkeypatch.setattr(client, "SUBMIT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Refusal, match=f"look with krona-tune queue --to {url} before you ask again"):
            Client(url).submit(Submission(name="mine", space="model: m"))
    with pytest.raises(Refusal, match="start it with krona-tune serve"):
        Client("http://127.0.0.1:9").submit(Submission(name="mine", space="model: m"))


def _hang_up(server: socket.socket) -> None:
    """Ends a connection without an answer."""
    connection, _ = server.accept()
    connection.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda asked: asked.order("a b", OrderRequest(what="pause")),
        lambda asked: asked.export("a b", ExportRequest(task="cola")),
    ],
    ids=["order", "export"],
)
def test_what_may_have_been_done_to_a_study_is_looked_for_on_its_page(ask: Callable[[Client], object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=_hang_up, args=(server,)).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Refusal, match=f"look at {url}/studies/a%20b before you ask again"):
            ask(Client(url))


def test_what_goes_to_this_machine_goes_through_no_proxy(asked: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert Client(asked.url).studies() == []


def test_the_client_needs_no_package_of_the_service() -> None:
    heavy = "{'fastapi', 'starlette', 'uvicorn', 'torch', 'ray'}"
    code = f"import sys; import krona_tune.service; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_token_with_a_line_break_is_used_without_it_and_one_that_no_header_has_is_not_said() -> None:
    Client("http://127.0.0.1:9", token="secret-secret-secret-123\n")
    with pytest.raises(Refusal, match="token: the token is longer than a header may be, or has blanks") as refused:
        Client("http://127.0.0.1:9", token="secret-secret\nsecret-123")
    assert "secret-s" not in str(refused.value)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda client: client.order("x", "pause"), "request: 'pause' is of the type str; give a OrderRequest"),
        (lambda client: client.submit({"name": "x"}), "asked: "),
        (lambda client: client.move(1, "x"), "priority: "),
        (lambda client: client.move(1, 11), "priority: Input should be less than or equal to 10"),
        (lambda client: client.resume("x", "y"), "trials: "),
        (lambda client: client.study(3), "name: "),
        (lambda client: Client(5), "url: "),
        (lambda client: Client("http://localhost:1", user=3), "user: "),
    ],
)
def test_a_wrong_argument_is_a_refusal_that_names_it(ask: Callable[[Client], object], said: str) -> None:
    with pytest.raises(Refusal) as refused:
        ask(Client("http://127.0.0.1:9", ""))
    assert str(refused.value).startswith(said)


def test_a_number_of_numpys_and_the_word_of_a_form_are_taken(asked: Client, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="queue"):
        asked.remove(np.int64(3))  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="form: unknown form 'pfet', did you mean 'peft'"):
        asked.download("first", "cola", tmp_path / "to", "pfet")
    with pytest.raises(Refusal, match="no study 'first' is here"):
        asked.download("first", "cola", tmp_path / "to", "peft")
