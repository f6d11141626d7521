"""Tells people how a study goes, through the services that the package apprise knows: mail, Slack, and many others.

Only names, scores and the beginnings of errors are sent, never data. The address of a service holds its password, so
nothing but its scheme is named anywhere.
"""

import logging
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from krona_tune.record.background import Worker
from krona_tune.record.sink import NullSink
from krona_tune.refusal import Refusal, lacking_package
from krona_tune.study.formatting import format_score
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import Manifest
from krona_tune.study.redact import redact
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.standings import Standings

if TYPE_CHECKING:
    from apprise import Apprise

logger = logging.getLogger(__name__)

NOTIFY = "KRONA_TUNE_NOTIFY"
"""The environment variable that may hold the addresses, with blanks between them."""
END_SECONDS = 10.0
"""How long the study's end waits until its notifications are sent."""
FAILURES_SECONDS = 600.0
"""The shortest time between two notifications of failed trials."""
ERROR_LENGTH = 200
"""The most characters of an error that are sent."""
SCHEME = re.compile(r"[a-z0-9+.-]{1,20}(?=://)", re.IGNORECASE)


def joined_addresses(addresses: Iterable[str]) -> str:
    """Returns addresses as that variable holds them: a blank inside of one is written %20, as in every address."""
    return " ".join(re.sub(r"\s", lambda blank: quote(blank[0]), each.strip()) for each in addresses)


@dataclass(frozen=True)
class Message:
    """A few plain sentences. `tone` is apprise's word for how they are shown."""

    title: str
    body: str
    tone: Literal["info", "success", "warning", "failure"] = "info"


class Notifications(NullSink):
    """A sink that tells of failed trials, the first trial that beats the head alone, and the study's end or halt.

    One thread for each address sends to it, so a slow or dead service delays nothing but the study's end, by
    `END_SECONDS`. A message that a service does not accept is lost; the log says so once for each address.

    Args:
        urls: the services' addresses, as apprise reads them.
        earlier: the rows of a resumed study.
        shared_by: the tasks that share their configurations, if they do.

    Raises:
        Refusal: apprise is not installed, or does not understand an address.
    """

    name = "the notifications"

    def __init__(
        self,
        urls: Sequence[str],
        *,
        study: str,
        manifest: Manifest,
        earlier: Iterable[TrialResult] = (),
        shared_by: tuple[str, ...] = (),
    ) -> None:
        self._title, self._manifest, self._shared_by = _title(study), manifest, shared_by
        self._baseline = "frozen model" if manifest.model.text_to_text else "head alone"
        self._rows = {row.trial_id: row for row in earlier}
        self._running_baselines: dict[str, str] = {}
        self._told_better = any(self._better(task) for task in manifest.tasks)
        self._failures, self._next_failure_at = 0, 0.0
        self._told_end, self._has_page = False, True
        self._services = [_Service(url) for url in urls]

    def trial_started(self, result: TrialResult) -> None:
        if result.kind == TrialKind.BASELINE:
            self._running_baselines[result.trial_id] = result.task

    def trial_ended(self, result: TrialResult) -> None:
        self._rows[result.trial_id] = result
        self._running_baselines.pop(result.trial_id, None)
        if result.status is Status.FAILED:
            self._tell_failure(result)
        if result.ended:
            self._tell_first_better(result.task)

    def halted(self, reason: str) -> None:
        """Tells at once that the study stopped itself; its end says nothing more."""
        self._tell_end(f"The study has stopped itself: {_cut(reason)}. Scores so far", "failure")

    def stopped(self) -> None:
        """Tells at once that somebody stopped the study before its end; its end says nothing more."""
        self._tell_end("The study was stopped before its end. Scores so far", "warning")

    def goes_on(self) -> None:
        """Says nothing of the end: the study's next driver follows."""
        self._told_end = True

    def lacks_page(self) -> None:
        """Makes the message about the end say that the study's page could not be written."""
        self._has_page = False

    def study_ended(self, artifacts: Sequence[Path]) -> None:
        """Tells the best scores, unless the study was stopped; waits at most `END_SECONDS` until all is sent."""
        self._tell_end("The study has ended", "success")
        for service in self._services:
            service.worker.end()
        deadline = time.monotonic() + END_SECONDS
        for service in self._services:
            service.wait(deadline - time.monotonic())

    def _tell(self, body: str, tone: Literal["info", "success", "warning", "failure"]) -> None:
        for service in self._services:
            service.worker.put(Message(self._title, body, tone))

    def _tell_end(self, what: str, tone: Literal["success", "warning", "failure"]) -> None:
        if self._told_end:
            return
        self._told_end = True
        standings = Standings(list(self._rows.values()), self._shared_by)
        scores = ", ".join(self._score(standings, task) for task in self._manifest.tasks)
        failed = sum(row.status is Status.FAILED for row in standings.rows)
        failures = f" {failed} {'trial has' if failed == 1 else 'trials have'} failed." if failed else ""
        page = "" if self._has_page else " Its page could not be written; study.log says why."
        self._tell(f"{what}: {scores or 'none'}.{failures}{page}", tone)

    def _score(self, standings: Standings, task: str) -> str:
        best, baseline = standings.best(task), standings.baseline(task)
        own = format_score(best.score) if best else "no score"
        return f"{self._name(task)} {own}" + (f" ({self._baseline} {format_score(baseline.score)})" if baseline else "")

    def _tell_failure(self, result: TrialResult) -> None:
        """Tells of a failed trial; of those that fail soon after it, the next message gives the number."""
        if time.monotonic() < self._next_failure_at:
            self._failures += 1
            return
        others = f" {self._failures} more failed since the last message." if self._failures else ""
        why = _cut(result.error) or "no reason is known"
        self._tell(f"Trial {result.trial_id} on {self._name(result.task)} has failed: {why}.{others}", "warning")
        self._failures, self._next_failure_at = 0, time.monotonic() + FAILURES_SECONDS

    def _tell_first_better(self, task: str) -> None:
        if self._told_better or task in self._running_baselines.values():
            return
        if found := self._better(task):
            self._told_better = True
            best, baseline = found
            self._tell(
                f"Trial {best.trial_id} is the first that is better than the {self._baseline}: "
                f"{self._name(task)} {format_score(best.score)} ({self._baseline} {format_score(baseline.score)}).",
                "info",
            )

    def _better(self, task: str) -> tuple[TrialResult, TrialResult] | None:
        """Returns the task's best trial and its baseline, if both have ended and the trial has the higher score."""
        ended = [row for row in self._rows.values() if row.ended and (self._shared_by or row.task == task)]
        standings = Standings(ended, self._shared_by)
        best, baseline = standings.best(task), standings.baseline(task)
        if best and baseline and (best.score or 0.0) > (baseline.score or 0.0):
            return best, baseline
        return None

    def _name(self, task: str) -> str:
        facts = self._manifest.tasks.get(task)
        if facts is None:
            return task
        return facts.title + (" (synthetic data)" if facts.synthetic else "")


def tell_of_halt(urls: Iterable[str], *, study: str, reason: str) -> None:
    """Tells that a study without a driver has halted, and waits for no answer; an odd address is only logged."""
    for url in urls:
        try:
            worker = _Service(url).worker
        except Refusal as refusal:
            logger.warning("%s", refusal)
            continue
        worker.put(Message(_title(study), f"The study has halted: {_cut(reason)}.", "failure"))
        worker.end()


def refuse_unknown_services(urls: Iterable[str]) -> None:
    """Refuses addresses that apprise does not understand, and any address if it is not installed."""
    for url in urls:
        _sender(url)


class _Service:
    """One address, and the worker that sends to it."""

    def __init__(self, url: str) -> None:
        self._sender, self._place = _sender(url), _place(url)
        self._failed = False
        self.worker: Worker[Message] = Worker(self._send, name=f"notifications by {self._place}")

    def wait(self, seconds: float) -> None:
        """Waits until everything is sent, or the time is over."""
        if self.worker.wait(seconds):
            self._fail("is still busy at the study's end")

    def _send(self, messages: Sequence[Message], last: bool) -> None:
        """Sends each message once: one that comes late helps nobody."""
        for message in messages:
            try:
                if not self._sender.notify(title=message.title, body=message.body, notify_type=message.tone):
                    self._fail("did not accept a notification")
            except Exception as error:  # its message may hold the address
                self._fail(f"could not be notified ({type(error).__name__})")

    def _fail(self, problem: str) -> None:
        if not self._failed:
            logger.warning("%s %s; the study continues; `apprise -vv -b test URL` says more", self._place, problem)
        self._failed = True


def _sender(url: str) -> "Apprise":
    """Returns what sends to one address, in the thread that calls it."""
    try:
        from apprise import Apprise, AppriseAsset
    except ImportError:
        raise lacking_package("--notify", "apprise", "service") from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would print parts of an address
    asset = AppriseAsset(app_id="krona_tune", app_desc="krona_tune", service_timeout=0.0, body_format="text")
    sender = Apprise(asset=asset)
    service, why = None, ""
    try:
        service = Apprise.instantiate(url, asset=asset)
    except Exception as error:  # its message may hold the address
        why = f" ({type(error).__name__})"
    if service is None:
        fix = "write it as https://github.com/caronc/apprise/wiki says, for example slack://TOKEN_A/TOKEN_B/TOKEN_C"
        raise Refusal("--notify", f"apprise does not understand {_place(url)}{why}", fix)
    sender.add(service)
    return sender


def _title(study: str) -> str:
    return f"krona_tune: {study}"


def _place(url: str) -> str:
    """Returns an address without its secrets: only its scheme."""
    scheme = SCHEME.match(url)
    return f"{scheme[0].lower()}://…" if scheme else "an address without a scheme"


def _cut(text: str) -> str:
    """Returns the beginning of a text's first line, with passwords masked."""
    return redact(next(iter(text.strip().splitlines()), ""))[:ERROR_LENGTH].rstrip(" .")
