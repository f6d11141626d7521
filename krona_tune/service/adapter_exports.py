"""Exports a study's adapters for the service, in a process of its own, into the study's folder; finds what is there."""

import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, StringConstraints

from krona_tune.adapters.adapter_card import CARD, tensors_digest, trial_in
from krona_tune.adapters.export_forms import Form
from krona_tune.atomic_write import UNFINISHED, write_atomically
from krona_tune.child_process import ChildProcess, ProcessEnded, TooSlow
from krona_tune.refusal import Refusal, refuse_unknown, refusing
from krona_tune.refused_calls import naming_fields
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest

EXPORT_SECONDS = 900.0
"""The most seconds that an export takes; a large model is written, loaded again and compared."""
OFFERED = tuple(form for form in Form if form.facts.offered)
"""The forms that need nothing else to be named."""


class ExportRequest(BaseModel):
    """Asks for what a study has chosen of a task in another form."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    task: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    """The task whose adapter is exported."""
    form: Form = Form.MERGED
    """The form, one that needs nothing else to be named; the refusal of another one lists them."""


class ExportAnswer(BaseModel):
    """Says what an export wrote, on the service's machine."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    folder: str
    """The folder that was written, exports/TASK-FORM in the study's."""
    difference: float
    """The largest difference between a logit of the adapter and of what was written."""
    loading: str
    """The lines of Python that load it."""
    download: str
    """The path from which the service sends the folder as a ZIP file."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """A folder with an adapter that the service sends; `form` is None for the adapter that the study has left."""

    task: str
    form: Form | None
    path: str


def downloads(study: StudyFolder, tasks: Iterable[str]) -> list[Download]:
    """Returns what can be downloaded of a study's tasks now."""
    return [
        Download(task=task, form=form, path=download_path(study.name, task, form))
        for task in tasks
        for form in (None, *OFFERED)
        if _is_there(study, task, form)
    ]


def download_path(study: str, task: str, form: str | None) -> str:
    """Returns the path from which the service sends what is chosen of a task, as the study left it or in a form."""
    start = f"/api/studies/{quote(study, safe='')}"
    return f"{start}/exports/{quote(task, safe='')}/{form}" if form else f"{start}/adapters/{quote(task, safe='')}"


def adapter_folder(study: StudyFolder, task: str) -> Path:
    """Returns the folder of what a study has chosen of a task. Raises a Refusal if there is none."""
    refuse_unknown("task", "task", read_manifest(study.manifest).tasks, task)
    if not _is_there(study, task, None):
        raise Refusal("task", f"{study.name} has no adapter of {task} yet", "wait for the study's end")
    return _inside(study, study.adapter(task))


def exported_folder(study: StudyFolder, task: str, form: Form) -> Path:
    """Returns the folder of a task's export. Raises a Refusal if there is none."""
    refuse_unknown("task", "task", read_manifest(study.manifest).tasks, task)
    if not _is_there(study, task, form):
        raise Refusal("form", f"what is chosen of {task} is not exported as {form}", "export it first")
    return _inside(study, _export_of(study, task, form))


def _is_there(study: StudyFolder, task: str, form: Form | None) -> bool:
    with suppress(OSError):  # nothing but the records may be read
        if not form:
            return (study.adapter(task) / CARD).exists()
        to = _export_of(study, task, form)
        return to.is_dir() and _source_of(to) == _source_now(study.adapter(task))
    return False


class ExportSource(BaseModel, frozen=True):
    """Says of which adapter an export is, beside its folder: a resumed study may have chosen another one since."""

    trial_id: str
    tensors: str
    """Their sha256."""


def _source_file(to: Path) -> Path:
    return to.with_name(f"{to.name}.json")


def _source_of(to: Path) -> ExportSource | None:
    """Returns of which adapter an export is; None if nothing says so."""
    with suppress(OSError, ValueError):
        return ExportSource.model_validate_json(_source_file(to).read_bytes())
    return None


def _source_now(adapter: Path) -> ExportSource:
    """Returns what is to be said of an export of this adapter."""
    changed = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in adapter.glob("*.safetensors"))
    return ExportSource(trial_id=trial_in(adapter), tensors=_digest_while(adapter, changed))


@lru_cache(maxsize=256)
def _digest_while(adapter: Path, unchanged: tuple[tuple[str, int, int], ...]) -> str:
    """Returns the digest of an adapter's tensors, read once while their files have these names, times and sizes."""
    return tensors_digest(adapter)


def _inside(study: StudyFolder, place: Path) -> Path:
    """Returns a place in a study's folder. Raises a Refusal if a link leads out of it."""
    if not place.resolve().is_relative_to(study.root.resolve()):
        raise Refusal(study.name, f"{place.name} is a link to a place outside it", "copy the folder")
    return place


def _export_of(study: StudyFolder, task: str, form: Form) -> Path:
    return study.exports / f"{task}-{form}"


@naming_fields({"--format": "form", "--model": "krona-tune export --model"})  # no request names a backbone
def export_apart(study: StudyFolder, asked: ExportRequest) -> ExportAnswer:
    """Writes an adapter in another form, from a process that ends with it.

    Raises:
        Refusal: there is no such task or no adapter of it yet, the form is not offered or there already, unless of
            another adapter, or the adapter can't have it.
    """
    refuse_unknown("form", "form", OFFERED, asked.form)
    adapter, to = adapter_folder(study, asked.task), _inside(study, _export_of(study, asked.task, asked.form))
    source = _source_now(adapter)
    _make_room(to, source)
    with ChildProcess() as child:
        try:
            download = download_path(study.name, asked.task, asked.form)
            return child.call(_export, adapter, to, asked.form, download, seconds=EXPORT_SECONDS)
        except (TooSlow, ProcessEnded) as error:
            raise Refusal("form", f"nothing was exported: {error}", "export it with krona-tune export") from None


def _make_room(to: Path, source: ExportSource) -> None:
    """Removes an export of another adapter and what a killed one left, and says of which one the next is.

    Raises:
        Refusal: it is of the same adapter, or nothing says of which.
    """
    with refusing("form", f"{to} can't be written", "free it"):
        if to.exists():
            earlier = _source_of(to)
            if earlier in {None, source}:
                unknown = " and does not say of which adapter it is" * (earlier is None)
                raise Refusal("form", f"{to} is there already{unknown}", "use it, or remove it first")
            shutil.rmtree(to)
        to.parent.mkdir(exist_ok=True)
        for left in to.parent.glob(f"{UNFINISHED}*"):
            if left.stat().st_mtime < time.time() - EXPORT_SECONDS:  # of a process that was killed
                shutil.rmtree(left)
        write_atomically(_source_file(to), source.model_dump_json())


def _export(adapter: Path, to: Path, form: Form, download: str) -> ExportAnswer:
    from krona_tune.train.export import export_adapter  # imports torch, which the service needs not

    found = export_adapter(adapter, to, form, forms=OFFERED)
    return ExportAnswer(folder=str(found.folder), difference=found.difference, loading=found.loading, download=download)
