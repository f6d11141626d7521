"""Reads a storage's studies for many viewers: each file once, each page once, however many ask."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b

from krona_tune.adapters.adapter_card import CARD
from krona_tune.api.folders import NAMES, refuse_unnamed
from krona_tune.record.driver_state import running_state
from krona_tune.record.orders import given_orders
from krona_tune.record.parquet_reader import read_trials
from krona_tune.record.records import read_records
from krona_tune.record.storage import LISTED, REPORTED, Storage, refresh
from krona_tune.refusal import Refusal, told
from krona_tune.refused_calls import LONGEST_NAME, naming_fields
from krona_tune.report.comparison import ComparedStudy, comparison_of, refuse_one
from krona_tune.report.comparison_page import comparison_title, render_comparison
from krona_tune.report.html import environment
from krona_tune.report.loss_charts import draw_running_losses
from krona_tune.report.running_trials import RunningTrial, trials_under_way
from krona_tune.report.study_page import render_body, title_of
from krona_tune.report.study_results import StudyResults, request_text
from krona_tune.search.waiting_orders import give_checked_order, refuse_senseless
from krona_tune.service.adapter_exports import OFFERED, downloads
from krona_tune.service.clone_form import clone_fields
from krona_tune.service.response_models import StudyDetail, StudySummary
from krona_tune.service.stamped_cache import StampedCache
from krona_tune.service.study_files import (
    FolderState,
    PageBody,
    StudyContent,
    masked,
    masked_order,
    refuse_links_outward,
    runs,
    stamp_of,
)
from krona_tune.service.study_summary import recorded_status, summarise_study, summary_of, with_driver
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_duration
from krona_tune.study.manifest import read_manifest
from krona_tune.study.order import Order, OrderRequest
from krona_tune.study.redact import redact
from krona_tune.study.request.loader import load_spec
from krona_tune.study.settings import field_names
from krona_tune.study.study_state import UNREADABLE

OF_AN_ORDER = field_names(OrderRequest.model_fields) | {"--set": "settings"}
"""The fields of an order, by the flags that mean the same."""
WATCHED = ("manifest.json", "study.yaml", "state.json", "results/*")
"""Patterns of the files that a study's page is made from."""
MOST_STUDIES, MOST_OPEN = 10_000, 32
"""How many studies' summaries are kept, and of how many the records and pages, which are large."""
MOST_COMPARED = 8
"""How many studies one page compares."""
LOOK_SECONDS, READ_SECONDS, DRAW_SECONDS, FETCH_SECONDS = 1.0, 2.0, 3.0, 15.0
"""The seconds for which a look at a study's files, its records, its page and what its copy holds count as new."""


class UnknownStudyError(Refusal):
    """Refuses a study that the storage does not have."""


class ServedStudies:
    """The studies of a storage. Every method may be called from any thread.

    Args:
        pace: stretches how long values count as new; 0 reads everything anew.
        resumes: a queue runs here, so that a study's page offers to resume it.
    """

    def __init__(self, storage: Storage, pace: float = 1.0, *, resumes: bool = False) -> None:
        self.storage = storage
        self._pace, self._resumes = pace, resumes
        self._lists: StampedCache[list[StudySummary]] = StampedCache(1, LOOK_SECONDS * pace)
        self._names: StampedCache[list[str]] = StampedCache(1)
        self._fetched: StampedCache[None] = StampedCache(MOST_STUDIES)
        self._driven: StampedCache[bool] = StampedCache(MOST_STUDIES)
        self._looks: StampedCache[FolderState] = StampedCache(MOST_STUDIES)
        self._summaries: StampedCache[StudySummary] = StampedCache(MOST_STUDIES)
        self._reads: StampedCache[StudyContent] = StampedCache(MOST_OPEN, READ_SECONDS * pace)
        self._bodies: StampedCache[PageBody] = StampedCache(MOST_OPEN, DRAW_SECONDS * pace)
        self._comparisons: StampedCache[PageBody] = StampedCache(MOST_OPEN, DRAW_SECONDS * pace)
        self._presents: StampedCache[str] = StampedCache(MOST_OPEN)

    def summaries(self) -> list[StudySummary]:
        """Returns every study's summary, the newest first. Raises a Refusal if the storage can't be reached."""

        def made() -> list[StudySummary]:
            found = [self._summary(name) for name in self._known()]
            return sorted(found, key=lambda each: (each.begun, each.name), reverse=True)

        return self._lists.get("", self._moment(LOOK_SECONDS), made)[1]

    def stamp(self) -> str:
        """Returns a text that differs if what is shown of a summary has changed."""
        shown = [
            (each.model_copy(update={"seconds_left": None}), _shown(each.seconds_left)) for each in self.summaries()
        ]
        return blake2b(repr(shown).encode(errors="replace"), digest_size=12).hexdigest()

    def folder(self, name: str) -> StudyFolder:
        """Returns a study's folder, as new as its copy.

        Raises:
            UnknownStudyError: the storage has no study of this name.
            Refusal: its copy can't be reached, or it links to files outside the storage.
        """
        unknown = UnknownStudyError("study", f"no study {name[:80]!r} is here", "look at the list of studies")
        if not NAMES.fullmatch(name) or len(name.encode(errors="replace")) > LONGEST_NAME:
            raise unknown
        folder = self.storage.study(name)
        self._fetch(folder, WATCHED)
        if not (folder.spec.exists() or folder.manifest.exists()):
            raise unknown
        refuse_links_outward(folder)
        return folder

    def with_adapters(self, name: str) -> StudyFolder:
        """Returns a study's folder with its adapters, as new as its copy. Raises what `folder` raises."""
        folder = self.folder(name)
        self._fetch(folder, ("adapters/*",))
        return folder

    def look(self, name: str) -> FolderState:
        """Returns what a study's files are now. Raises what `folder` raises."""

        def made() -> FolderState:
            folder = self.folder(name)
            driven = self._runs(folder)
            stamp = f"{stamp_of(folder, runs=driven)}{self._copy_stamp(folder)}"
            return FolderState(stamp=stamp, runs=driven, driver=running_state(folder) if driven else None)

        return self._looks.get(name, self._moment(LOOK_SECONDS), made)[1]

    def read(self, name: str) -> StudyContent:
        """Returns what a study has recorded. Raises what `folder` raises, or a Refusal if it can't be read."""
        look = self.look(name)

        def made() -> StudyContent:
            folder = self.folder(name)
            manifest, spec = read_manifest(folder.manifest), redact(request_text(folder))
            recorded = masked(read_records(folder.results, runs=look.runs))
            results = StudyResults(manifest=manifest, recorded=recorded, spec=spec)
            status = recorded_status(folder, results, runs=look.runs)
            return StudyContent(
                stamp=look.stamp,
                results=results,
                orders=tuple(masked_order(order) for order in given_orders(folder, recorded.orders)),
                state=status.state,
                summary=summary_of(folder, results, status),
            )

        return self._reads.get(name, look.stamp, made)[1]

    def body(self, name: str) -> PageBody:
        """Returns a study's page without the present. Raises what `read` raises."""
        read = self.read(name)

        def made() -> PageBody:
            html = render_body(read.results, read.orders, live=True)
            return PageBody(stamp=read.stamp, title=title_of(read.results.manifest), html=html)

        return self._bodies.get(name, read.stamp, made)[1]

    def comparison_stamp(self, names: Sequence[str]) -> str:
        """Returns a text that differs if the records of one of these studies have changed. Raises what `comparison`
        raises."""
        refuse_one(names := list(dict.fromkeys(names)))
        if len(names) > MOST_COMPARED:
            raise Refusal("studies", f"{len(names)} are too many for one page", f"choose at most {MOST_COMPARED}")
        return blake2b(repr([self.look(name).stamp for name in names]).encode(), digest_size=12).hexdigest()

    def comparison(self, names: Sequence[str]) -> PageBody:
        """Returns the page that compares studies.

        Raises:
            Refusal: fewer than two different ones are named or more than MOST_COMPARED; or what `read` raises.
        """
        stamp = self.comparison_stamp(names)

        def made() -> PageBody:
            studies = [ComparedStudy(name=name, results=self.read(name).results) for name in dict.fromkeys(names)]
            found = comparison_of(studies)
            return PageBody(stamp=stamp, title=comparison_title(found), html=render_comparison(found, served=True))

        return self._comparisons.get(repr(list(dict.fromkeys(names))), stamp, made)[1]

    def may_draw(self, name: str) -> bool:
        """Returns whether a changed page would be drawn again now."""
        return self._reads.is_due(name) and self._bodies.is_due(name)

    def present(self, name: str) -> str:
        """Returns the HTML of the part about the present. Raises what `read` raises."""

        def made() -> str:
            look, read = self.look(name), self.read(name)
            now = replace(read.state, runs=look.runs, driver=look.driver)
            manifest, running = read.results.manifest, self._running(name, look, read)
            folder = self.storage.study(name)
            self._fetch(folder, (f"adapters/*/{CARD}",))
            template, losses = environment().get_template("now.html.j2"), draw_running_losses(running)
            return template.render(
                now=now,
                running=running,
                manifest=manifest,
                losses=losses,
                name=name,
                resumes=self._resumes,
                exports=OFFERED,
                downloads=downloads(folder, manifest.tasks),
            )

        return self._presents.get(name, self._moment(LOOK_SECONDS), made)[1]

    def detail(self, name: str) -> StudyDetail:
        """Returns a study with what runs now. Raises what `read` raises."""
        look, read = self.look(name), self.read(name)
        return StudyDetail(
            **with_driver(read.summary, look.driver).model_dump(),
            running=self._running(name, look, read),
            orders=list(read.orders),
            driver=look.driver,
        )

    @naming_fields(OF_AN_ORDER)
    def check(self, name: str, request: OrderRequest) -> None:
        """Leaves no order. Raises what `order` raises."""
        _refuse_of_queue(request)
        refuse_senseless(self.folder(name), request)

    def clone_form(self, name: str, trial: str) -> str:
        """Returns the HTML of what a clone of a trial may change.

        Raises:
            Refusal: the study has no such trial, or none that can be cloned; or what `read` raises.
        """
        rows = {row.trial_id: row for row in self.read(name).results.recorded.trials}
        if trial not in rows:
            raise Refusal("trial", f"{trial[:80]!r} is no trial of this study", "load the page again")
        fields = clone_fields(load_spec(self.folder(name).spec), rows[trial])
        return environment().get_template("clone_fields.html.j2").render(fields=fields)

    @naming_fields(OF_AN_ORDER)
    def order(self, name: str, request: OrderRequest, by: str) -> Order:
        """Leaves an order for a study's driver.

        Raises:
            Refusal: only the queue gives shares; or what `folder` and `give_checked_order` raise.
        """
        _refuse_of_queue(request)
        return give_checked_order(self.folder(name), request, by)

    def _running(self, name: str, look: FolderState, read: StudyContent) -> list[RunningTrial]:
        """Returns the study's trials that run now."""
        return (
            trials_under_way(self.storage.study(name), read.results.manifest, read.results.recorded)
            if look.runs
            else []
        )

    def _known(self) -> list[str]:
        moment = self._moment(FETCH_SECONDS if self.storage.uri else LOOK_SECONDS)
        return self._names.get("", moment, lambda: [folder.name for folder in self.storage.studies()])[1]

    def _summary(self, name: str) -> StudySummary:
        try:
            refuse_unnamed(self.storage, name)
        except Refusal as refusal:
            shown = os.fsencode(name).decode(errors="backslashreplace")  # of bytes that are no text, too
            return StudySummary(name=shown, state=UNREADABLE, problem=f"{refusal.problem}; {refusal.fix}")
        try:
            folder = self.storage.study(name)
            self._fetch(folder, (*LISTED, "state.json"))
            refuse_links_outward(folder)
            driven = self._runs(folder)
            stamp = stamp_of(folder, runs=driven)
            summary = self._summaries.get(name, stamp, lambda: summarise_study(self._so_far(folder), runs=driven))[1]
            return with_driver(summary, running_state(folder) if driven else None)
        except Refusal as refusal:
            return StudySummary(name=name, state=UNREADABLE, problem=redact(refusal.problem))
        except OSError as error:
            return StudySummary(name=name, state=UNREADABLE, problem=f"it can't be read ({redact(told(error))})")

    def _so_far(self, folder: StudyFolder) -> StudyFolder:
        """Returns a study's folder with its reports, if a trial has no end."""
        with suppress(Refusal):
            if folder.remote and not all(trial.ended for trial in read_trials(folder.results)):
                self._fetch(folder, REPORTED)
        return folder

    def _fetch(self, folder: StudyFolder, only: tuple[str, ...]) -> None:
        if folder.remote:
            self._fetched.get(f"{folder.name}/{only}", self._moment(FETCH_SECONDS), lambda: refresh(folder, only))

    def _runs(self, folder: StudyFolder) -> bool:
        """Returns whether a process has the study; a copy is asked for that as seldom as for its files."""
        if not folder.remote:
            return runs(folder)
        return self._driven.get(folder.name, self._moment(FETCH_SECONDS), lambda: runs(folder))[1]

    def _copy_stamp(self, folder: StudyFolder) -> str:
        """Returns when orders at the study's copy were looked at last; empty for a study without one."""
        return f"-{self._moment(FETCH_SECONDS)}" if folder.remote else ""

    def _moment(self, seconds: float) -> str:
        """Returns a text that stays the same for this many seconds."""
        return str(time.monotonic() // (seconds * self._pace)) if self._pace else str(time.monotonic_ns())


def _shown(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(seconds)


def _refuse_of_queue(request: OrderRequest) -> None:
    """Refuses an order that only the queue gives."""
    if request.kind.facts.by_queue:
        raise Refusal("order.what", f"only the queue gives {request.what}s", "order max_concurrent, or pause")
