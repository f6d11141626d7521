"""Asks a service for studies and gives orders through it, from Python; needs no package of the service's."""

import json
from collections.abc import Callable, Iterator
from functools import wraps
from http.client import HTTPException, IncompleteRead
from inspect import signature
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, ParamSpec, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener
from zipfile import ZipFile

from pydantic import TypeAdapter, ValidationError

from krona_tune.adapters.export_forms import Form
from krona_tune.atomic_write import atomic_folder
from krona_tune.hub import home
from krona_tune.refusal import Refusal, refuse_unknown, refusing
from krona_tune.refused_calls import as_python, refuse_misfit
from krona_tune.service.access_token import checked_token, is_http_address, is_loopback, token_for
from krona_tune.service.adapter_exports import EXPORT_SECONDS, ExportAnswer, ExportRequest, download_path
from krona_tune.service.new_study.study_form import (
    BEGIN,
    COLUMNS,
    OFFER,
    PLAN,
    DataColumns,
    NewStudy,
    Offer,
    PrintedPlan,
)
from krona_tune.service.queue.entry import (
    QUEUE,
    Entry,
    Move,
    QueueView,
    Resumption,
    Submission,
    SubmissionAnswer,
    TrainingRequest,
)
from krona_tune.service.response_models import MOST_ROWS, Rows, StudyDetail, StudySummary
from krona_tune.study.order import Order, OrderRequest
from krona_tune.study.redact import redact

Value = TypeVar("Value")
Given = ParamSpec("Given")
STUDY = "/api/studies/"
"""The beginning of the paths of one study."""
PART = 2**20
"""The most bytes of an answer that are read at once."""
ASK_SECONDS, SUBMIT_SECONDS = 30.0, 900.0
"""How long an answer may take, and that to a submission, for which a plan is made: longer than the service tries."""


def _typed(method: Callable[Given, Value]) -> Callable[Given, Value]:
    """Refuses arguments that are not of the annotated types, or that a request does not take."""
    expected = signature(method)

    @wraps(method)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Value:
        bound = expected.bind(*args, **kwargs)
        for name, value in list(bound.arguments.items())[1:]:
            bound.arguments[name] = plain = as_python(value)
            refuse_misfit(plain, expected.parameters[name].annotation, name)
        try:
            return method(*bound.args, **bound.kwargs)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise Refusal(".".join(map(str, first["loc"])), str(first["msg"])) from None

    return call


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect, which would carry the token elsewhere."""

    def redirect_request(self, *args: Any) -> None:
        return None


class Client:
    """Asks a service for studies, gives orders through it and uses its queue.

    Args:
        url: the service's address, such as `http://127.0.0.1:8300`.
        token: what the service wants to know; None: the one that this account's own service at the URL made, if any.
        user: who asks; empty for whoever the service thinks.

    Raises:
        Refusal: from every method: an argument of another type, what the service refuses, or that it can't be reached;
            from the constructor, that the URL is no address of a service.
    """

    @_typed
    def __init__(self, url: str, token: str | None = None, user: str = "") -> None:
        if not is_http_address(url):
            raise Refusal("url", f"{redact(url)!r} is no address of a service", "write http://host:port")
        self.url = url.rstrip("/")
        self._token = checked_token(token, "token") if token else token
        self._headers = {"X-User": quote(user, safe=" @.")} if user else {}
        self._handlers = [_NoRedirect(), *([ProxyHandler({})] if is_loopback(urlsplit(url).hostname or "") else [])]

    @_typed
    def studies(self) -> list[StudySummary]:
        """Returns every study's summary, the newest first."""
        return _read(list[StudySummary], self._ask("/api/studies"))

    @_typed
    def study(self, name: str) -> StudyDetail:
        """Returns a study with its running trials, its orders and its driver's state.

        Args:
            name: the study's.
        """
        return _read(StudyDetail, self._ask(_path(name)))

    @_typed
    def trials(self, name: str, task: str = "", status: str = "") -> list[dict[str, Any]]:
        """Returns the rows of a study's trials, in the order in which they started; numbers that are not finite are
        None.

        Args:
            name: the study's.
            task: only the trials of this task; empty: of all.
            status: only the trials of this status, such as completed or failed; empty: of any.
        """
        rows: list[dict[str, Any]] = []
        while True:
            asked = {"task": task, "status": status, "offset": len(rows), "limit": MOST_ROWS}
            page = _read(Rows, self._ask(f"{_path(name)}/trials?{urlencode(asked)}"))
            rows += page.rows
            if not page.rows or len(rows) >= page.total:
                return rows

    @_typed
    def order(self, name: str, request: OrderRequest) -> Order:
        """Leaves an order for the study's driver, and returns it as it waits.

        Args:
            name: the study's.
            request: what is ordered.
        """
        return _read(Order, self._ask(f"{_path(name)}/orders", request.model_dump_json().encode()))

    @_typed
    def submit(self, asked: Submission) -> SubmissionAnswer:
        """Gives a study a place in the queue, or only returns its plan.

        The same submission, sent again because an answer was lost, has the same place.

        Args:
            asked: the study, or the wish for its plan.
        """
        return _read(SubmissionAnswer, self._ask(QUEUE, asked.model_dump_json().encode(), seconds=SUBMIT_SECONDS))

    @_typed
    def offer(self) -> Offer:
        """Returns what a new study can be made of, in a service with `--data-root`."""
        return _read(Offer, self._ask(OFFER))

    @_typed
    def columns(self, file: str) -> list[str]:
        """Returns the names of a data file's columns.

        Args:
            file: the file's value in the offer.
        """
        return _read(DataColumns, self._ask(f"{COLUMNS}?{urlencode({'file': file})}")).columns

    @_typed
    def plan(self, asked: NewStudy) -> str:
        """Returns the plan of a new study as `krona-tune run --dry-run` prints it; nothing is begun.

        Args:
            asked: the study.
        """
        return _read(PrintedPlan, self._ask(PLAN, asked.model_dump_json().encode(), seconds=SUBMIT_SECONDS)).text

    @_typed
    def begin(self, asked: NewStudy) -> SubmissionAnswer:
        """Gives a new study a place in the queue.

        The same one with the same `id`, sent again because an answer was lost, has the same place.

        Args:
            asked: the study.
        """
        return _read(SubmissionAnswer, self._ask(BEGIN, asked.model_dump_json().encode(), seconds=SUBMIT_SECONDS))

    @_typed
    def queue(self) -> QueueView:
        """Returns the queue's entries, its slots, and what each person's studies have used."""
        return _read(QueueView, self._ask(QUEUE))

    @_typed
    def move(self, entry: int, priority: int) -> Entry:
        """Gives an entry of the queue another priority, and returns the entry.

        Args:
            entry: the number of its place, `id`.
            priority: from 1 to 10; studies get slots in proportion to it.
        """
        return _read(Entry, self._ask(f"{QUEUE}/{entry}", Move(priority=priority).model_dump_json().encode(), "PATCH"))

    @_typed
    def remove(self, entry: int) -> Entry:
        """Removes an entry from the queue; if its study runs, its driver is asked to end, and keeps its trials.

        Args:
            entry: the number of its place, `id`.
        """
        return _read(Entry, self._ask(f"{QUEUE}/{entry}", method="DELETE"))

    @_typed
    def put_back(self, entry: int) -> Entry:
        """Gives an entry that ended its place again; its study is resumed.

        Args:
            entry: the number of its place, `id`.
        """
        return _read(Entry, self._ask(f"{QUEUE}/{entry}/again", b"{}"))

    @_typed
    def resume(self, study: str, trials: int = 0, time_budget: str = "") -> Entry:
        """Gives a study of the service's storage that does not run a place in the queue, which resumes it.

        Args:
            study: its name.
            trials: how many more trials each task gets.
            time_budget: the new time budget of the whole study, such as 2h; empty: it stays.
        """
        asked = Resumption(name=study, trials=trials, time_budget=time_budget)
        return _read(Entry, self._ask(f"{QUEUE}/resume", asked.model_dump_json().encode()))

    @_typed
    def train(self, asked: TrainingRequest) -> Entry:
        """Gives a full training of what a study of the service's storage has chosen a place in the queue.

        Args:
            asked: the study, and what is trained on how many seeds.
        """
        return _read(Entry, self._ask(f"{QUEUE}/train", asked.model_dump_json().encode()))

    @_typed
    def export(self, study: str, asked: ExportRequest) -> ExportAnswer:
        """Exports what a study has chosen of a task into the study's folder on the service's machine.

        Args:
            study: its name.
            asked: the task and the form.
        """
        body = asked.model_dump_json().encode()
        return _read(ExportAnswer, self._ask(f"{_path(study)}/exports", body, seconds=2 * EXPORT_SECONDS))

    @_typed
    def download(self, study: str, task: str, to: str | Path, form: Form | str | None = None) -> Path:
        """Brings what a study has chosen of a task to this machine, as the study left it or as it was exported.

        Args:
            study: the study's name.
            task: the task's.
            to: a folder that does not exist yet.
            form: the form in which it was exported, such as merged; None: as the study left it, for `krona_tune.load`.

        Returns: the folder.
        """
        if form is not None:
            refuse_unknown("form", "form", [str(each) for each in Form], str(form))
        folder = home(Path(to), "to")
        if folder.exists():
            raise Refusal("to", f"{folder} is there already", "name a new folder")
        with (
            refusing("to", f"{folder} can't be written", "name another one"),
            atomic_folder(folder) as built,
            TemporaryFile(dir=built.parent) as packed,
        ):
            for part in self._parts(download_path(study, task, form and str(form)), seconds=SUBMIT_SECONDS):
                packed.write(part)
            _unpack(packed, built)
        return folder

    def _ask(
        self, path: str, body: bytes | None = None, method: str | None = None, seconds: float = ASK_SECONDS
    ) -> bytes:
        return b"".join(self._parts(path, body, method, seconds))

    def _parts(
        self, path: str, body: bytes | None = None, method: str | None = None, seconds: float = ASK_SECONDS
    ) -> Iterator[bytes]:
        token = token_for(self.url) if self._token is None else self._token
        headers = self._headers | ({"Authorization": f"Bearer {token}"} if token else {})
        headers |= {"Content-Type": "application/json"} if body else {}
        request = Request(self.url + path, data=body, headers=headers, method=method)
        try:
            with build_opener(*self._handlers).open(request, timeout=seconds) as answer:
                while part := answer.read(PART):
                    yield bytes(part)
                if answer.length:
                    raise IncompleteRead(b"", answer.length)
        except HTTPError as error:
            raise _refusal(error) from None
        except (URLError, HTTPException, OSError, ValueError) as error:
            place = redact(self.url)
            refused = isinstance(getattr(error, "reason", error), ConnectionRefusedError)
            changed = request.get_method() != "GET"
            look = f"it may have done what was asked: look {_where(place, path)} before you ask again"
            fix = look if changed and not refused else "start it with krona-tune serve"
            raise Refusal(place, f"gives no answer ({error})", fix) from None


def _read(kind: type[Value], answer: bytes) -> Value:
    try:
        return TypeAdapter(kind).validate_json(answer)
    except ValidationError:
        raise Refusal(
            "the service", "answers what this version can't read", "install the version of the service"
        ) from None


def _unpack(packed: IO[bytes], to: Path) -> None:
    """Unpacks the only folder of a ZIP file."""
    with ZipFile(packed) as found:
        for entry in found.infolist():
            entry.filename = entry.filename.partition("/")[2]
            found.extract(entry, to)


def _path(name: str) -> str:
    return STUDY + quote(name, safe="")


def _where(place: str, path: str) -> str:
    """Returns where a person sees what became of a request: on the study's page, or in the queue."""
    if path.startswith(STUDY):
        return f"at {place}/studies/{path.removeprefix(STUDY).partition('/')[0]}"
    return f"with krona-tune queue --to {place}"


def _refusal(error: HTTPError) -> Refusal:
    try:
        said = json.loads(error.read())
        return Refusal(str(said["place"]), str(said["problem"]), str(said["fix"]))
    except (ValueError, KeyError, TypeError, OSError):
        return Refusal(redact(error.url), f"answers {error.code} {error.reason}", "look whether a service is there")
