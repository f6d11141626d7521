"""Tests that people are told of a study's events through a real service, and that no service harms the study."""

import builtins
import html
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from krona_tune.record import notifications
from krona_tune.record.notifications import (
    Notifications,
    joined_addresses,
    refuse_unknown_services,
    tell_of_halt,
)
from krona_tune.record.sink import FanOut
from krona_tune.refusal import Refusal
from krona_tune.study.result import Status, TrialResult
from tests.record.events import ended, manifest, report, started
from tests.waiting import until

Apprise = pytest.importorskip("apprise").Apprise

SECRET = "correct-horse-7"
DEAD = f"json://user:{SECRET}@127.0.0.1:9/{SECRET}/?cto=1&rto=1"


def test_an_address_with_blanks_is_one_address_in_the_variable() -> None:
    given = (" mailto://u:p@host.example?name=Krona Tune\u3000x&to=a@b.example ", "json://host.example/a%20b")
    words = joined_addresses(given).split()
    assert len(words) == len(given)
    for word, address in zip(words, given, strict=True):
        assert Apprise.instantiate(word).url() == Apprise.instantiate(address.strip()).url()


class Service(ThreadingHTTPServer):
    """A server that keeps what it receives. `answer` is its status; while `busy` is set it does not answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[dict[str, Any]] = []
        self.answer, self.free = 200, threading.Event()
        self.free.set()

    @property
    def url(self) -> str:
        return f"json://user:{SECRET}@127.0.0.1:{self.server_port}/"

    @property
    def bodies(self) -> list[str]:
        return [message["message"] for message in self.received]


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.free.wait(20)
        self.server.received.append(message)
        self.send_response(self.server.answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.free.set()
        server.shutdown()
        thread.join()


def opened(*urls: str, **more: Any) -> Notifications:
    return Notifications(urls, study="first-study", **{"manifest": manifest("cola", "rte"), **more})


def completed(number: int, score: float | None, task: str = "cola", **more: Any) -> TrialResult:
    trial = started(number, task, **more)
    name = trial.trial_id + ("-head" if trial.kind == "baseline" else "")
    reports = [] if score is None else [report(trial, 2, score)]
    return replace(ended(trial, Status.COMPLETED, reports), trial_id=name)


def head(number: int, score: float, task: str = "cola") -> TrialResult:
    return completed(number, score, task, kind="baseline", method="head_only", a_out=1, a_in=1)


def failed(number: int, error: str = "") -> TrialResult:
    return ended(started(number), Status.FAILED, [], error)


def test_the_end_says_the_best_scores_beside_the_head_alone(service: Service) -> None:
    sink = opened(service.url)
    for row in (head(0, 0.5), head(1, 0.25), completed(0, 0.125), completed(1, 0.375), completed(0, None, "rte")):
        sink.trial_started(row)
        sink.trial_ended(row)
    sink.study_ended([])
    [message] = service.received
    assert message["title"] == "krona_tune: first-study"
    assert message["message"] == "The study has ended: COLA 0.375 (head alone 0.500), RTE no score."
    assert message["type"] == "success"


def test_the_end_says_that_the_page_is_missing(service: Service) -> None:
    sink = opened(service.url, manifest=manifest("cola"))
    sink.trial_ended(completed(0, 0.5))
    sink.lacks_page()
    sink.study_ended([])
    assert service.bodies == ["The study has ended: COLA 0.500. Its page could not be written; study.log says why."]


def test_only_the_first_trial_that_is_better_than_the_head_alone_is_told(service: Service) -> None:
    sink = opened(service.url)
    for row in (head(0, 0.25), completed(0, 0.25), completed(1, 0.5), completed(2, 0.75)):
        sink.trial_ended(row)
    for row in (head(0, 0.25, "rte"), completed(0, 0.5, "rte")):
        sink.trial_ended(row)
    sink.study_ended([])
    told = "Trial cola-0001 is the first that is better than the head alone: COLA 0.500 (head alone 0.250)."
    assert [body for body in service.bodies if "better" in body] == [told]
    assert service.received[0]["type"] == "info"


def test_a_trial_is_compared_when_the_task_has_no_running_baseline(service: Service) -> None:
    heads = [head(0, 0.25), head(1, 0.5)]
    sink = opened(service.url)
    for row in heads:
        sink.trial_started(row)
    for row in (heads[0], completed(0, 0.375), heads[1], completed(1, 0.625)):
        sink.trial_ended(row)
    sink.study_ended([])
    assert service.bodies[0].startswith("Trial cola-0001 is the first")


def test_of_shared_configurations_the_best_on_average_is_compared(service: Service) -> None:
    sink = opened(service.url, shared_by=("cola", "rte"))
    for row in (head(0, 0.25), head(0, 0.25, "rte"), completed(0, 0.2), completed(0, 0.2, "rte")):
        sink.trial_ended(row)
    for row in (completed(1, 0.5), completed(1, 0.75, "rte")):
        sink.trial_ended(row)
    sink.study_ended([])
    assert service.bodies[0].startswith("Trial rte-0001 is the first"), "cola-0001 was not trained on RTE yet"


def test_an_interrupted_trial_is_not_compared(service: Service) -> None:
    sink = opened(service.url)
    sink.trial_ended(head(0, 0.25))
    sink.trial_ended(replace(completed(0, 0.5), status=Status.INTERRUPTED))
    sink.study_ended([])
    assert service.bodies == ["The study has ended: COLA 0.500 (head alone 0.250), RTE no score."]


def test_a_resumed_study_knows_what_was_told_and_recorded(service: Service) -> None:
    sink = opened(service.url, earlier=(head(0, 0.25), completed(0, 0.5)))
    sink.trial_ended(completed(1, 0.75))
    sink.study_ended([])
    assert service.bodies == ["The study has ended: COLA 0.750 (head alone 0.250), RTE no score."]


def test_a_score_on_made_up_data_says_so(service: Service) -> None:
    sink = opened(service.url, manifest=manifest("cola", synthetic=True))
    sink.trial_ended(completed(0, 0.5))
    sink.study_ended([])
    assert service.bodies == ["The study has ended: COLA (synthetic data) 0.500."]


def test_the_baseline_of_a_model_that_writes_is_the_frozen_model(service: Service) -> None:
    facts = manifest("cola")
    writes = facts.model_copy(update={"model": facts.model.model_copy(update={"writes": True})})
    sink = opened(service.url, manifest=writes)
    sink.trial_ended(head(0, 0.25))
    sink.study_ended([])
    assert service.bodies == ["The study has ended: COLA no score (frozen model 0.250)."]


def test_failures_are_told_once_in_ten_minutes_with_their_number(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(notifications.time, "monotonic", lambda: now)
    sink = opened(service.url)
    for number in range(4):
        sink.trial_ended(failed(number, "RuntimeError: no memory"))
        now += 100.0
    now += 300.0
    sink.trial_ended(failed(4))
    monkeypatch.undo()
    sink.study_ended([])
    assert service.bodies == [
        "Trial cola-0000 on COLA has failed: RuntimeError: no memory.",
        "Trial cola-0004 on COLA has failed: no reason is known. 3 more failed since the last message.",
        "The study has ended: COLA no score, RTE no score. 5 trials have failed.",
    ]
    assert [message["type"] for message in service.received] == ["warning", "warning", "success"]


def test_only_the_beginning_of_an_error_is_sent_without_its_passwords(service: Service) -> None:
    start = f"ConnectionError: postgresql://me:{SECRET}@host refuses "
    error = start + "x" * (200 - len(start)) + "BEYOND\nA TEXT OF THE DATA"
    sink = opened(service.url)
    sink.trial_ended(failed(0, "y" * 200 + "BEYOND\nA TEXT OF THE DATA"))
    sink.halted(error)
    sink.study_ended([])
    first, last = service.bodies
    assert "y" * 200 in first
    assert "postgresql://me:***@host refuses xxx" in last
    sent = json.dumps(service.received)
    for secret in ("DATA", SECRET):
        assert secret not in sent
    assert "BEYOND" not in first


def test_an_error_with_marks_of_html_is_told_as_it_is(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{service.server_port}/bot"
    monkeypatch.setattr("apprise.plugins.telegram.NotifyTelegram.notify_url", address)
    sink = opened("tgram://123456789:abcdefghijklmnopqrstuvwxyz123456789/12345678")
    sink.trial_ended(failed(0, "TypeError: <class 'int'> & <b>"))
    sink.study_ended([])
    message = service.received[0]
    shown = html.unescape(message["text"]) if message["parse_mode"].lower() == "html" else message["text"]
    assert "TypeError: <class 'int'> & <b>" in shown.replace("\xa0", " ")
    assert "<class" not in message["text"], "a service that shows HTML would take this for a tag"


@pytest.mark.parametrize(
    ("how", "told", "kind"),
    [
        (
            "halted",
            "The study has stopped itself: the disk is full. Scores so far: COLA 0.500, RTE no score.",
            "failure",
        ),
        ("stopped", "The study was stopped before its end. Scores so far: COLA 0.500, RTE no score.", "warning"),
    ],
)
def test_a_study_that_stops_says_so_at_once_and_once(service: Service, how: str, told: str, kind: str) -> None:
    sink = opened(service.url)
    sink.trial_ended(completed(0, 0.5))
    sink.halted("the disk is full") if how == "halted" else sink.stopped()
    until(lambda: service.received)
    assert [(message["message"], message["type"]) for message in service.received] == [(told, kind)]
    sink.study_ended([])
    assert service.bodies == [told]


def test_a_driver_that_another_one_follows_says_nothing_of_its_end(service: Service) -> None:
    sink = opened(service.url)
    sink.trial_ended(failed(0, "RuntimeError"))
    sink.goes_on()
    sink.study_ended([])
    assert service.bodies == ["Trial cola-0000 on COLA has failed: RuntimeError."]


def test_a_halt_is_told_of_a_study_without_a_driver(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    reason = f"it died: postgresql://me:{SECRET}@host refuses"
    tell_of_halt([f"slakc://{SECRET}", service.url], study="first", reason=reason)
    until(lambda: service.received)
    [message] = service.received
    assert (message["title"], message["type"]) == ("krona_tune: first", "failure")
    assert message["message"] == "The study has halted: it died: postgresql://me:***@host refuses."
    assert "apprise does not understand slakc://…" in caplog.text
    assert SECRET not in caplog.text


def test_a_dead_service_delays_no_event_and_is_logged_once_without_its_address(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.free.clear()
    with caplog.at_level(logging.DEBUG):
        sink = opened(DEAD, service.url)
        sink.trial_ended(failed(0, "RuntimeError"))
        sink.halted("the disk is full")
        assert service.received == [], "a call waited for an answer"
        service.free.set()
        fan = FanOut([sink])
        fan.study_ended([Path("report.html")])
    assert fan.failures == {}
    assert len(service.received) == 2
    [line] = [record.getMessage() for record in caplog.records if record.name.startswith("krona_tune")]
    assert line.startswith("json://… did not accept a notification; the study continues")
    assert SECRET not in caplog.text


def test_a_service_that_refuses_is_logged_once(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.answer = 401
    sink = opened(service.url)
    for number in range(2):
        sink.trial_ended(failed(number))
    sink.study_ended([])
    assert len([record for record in caplog.records if record.name.startswith("krona_tune")]) == 1
    assert SECRET not in caplog.text


def test_the_end_waits_for_a_slow_service_only_so_long(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifications, "END_SECONDS", 0.3)
    service.free.clear()
    sink = opened(f"{service.url}?rto=20")
    sink.study_ended([])
    assert service.received == []
    assert "json://… is still busy at the study's end" in caplog.text


def test_an_error_in_a_service_is_logged_without_its_text(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **given: Mapping[str, object]) -> bool:
        raise ValueError(service.url)

    monkeypatch.setattr("apprise.Apprise.notify", fail)
    sink = opened(service.url)
    sink.study_ended([])
    assert "json://… could not be notified (ValueError)" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("url", "named"),
    [
        (f"slakc://{SECRET}/x/y", "slakc://…"),
        (f"slack://{SECRET}", "slack://…"),
        ("json://", "json://…"),
        (f"mailto:me:{SECRET}@example.com", "an address without a scheme"),
        (f"json://[{SECRET}", "json://…"),
        ("", "an address without a scheme"),
    ],
)
def test_an_address_that_apprise_does_not_understand_is_refused(
    url: str, named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for call in (lambda: refuse_unknown_services([url]), lambda: opened(url)):
        with pytest.raises(Refusal, match="--notify: apprise does not understand") as refused:
            call()
        assert named in str(refused.value)
        assert SECRET not in str(refused.value)
    assert SECRET not in "".join(capfd.readouterr())


def test_known_services_are_accepted_and_none_is_needed() -> None:
    refuse_unknown_services([])
    refuse_unknown_services([DEAD, f"mailto://me:{SECRET}@example.com", f"discord://{SECRET}/{SECRET}"])
    sink = opened()
    sink.trial_ended(failed(0))
    sink.study_ended([])


def test_a_missing_package_is_refused_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name == "apprise":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Refusal, match=r"apprise is not installed; pip install 'krona_tune\[service\]'"):
        refuse_unknown_services(["json://127.0.0.1/"])
