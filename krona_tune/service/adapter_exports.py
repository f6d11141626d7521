"""Exports a study's adapters for the service, in a process of its own, into the study's folder."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from krona_tune.adapters.adapter_card import CARD, Form
from krona_tune.child_process import ChildProcess, ProcessEnded, TooSlow
from krona_tune.refusal import Refusal, refuse_unknown
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest

EXPORT_SECONDS = 900.0
"""How long an export may take; a large model is written, loaded again and compared."""
OFFERED = (Form.MERGED, Form.ONNX, Form.PEFT, Form.KRONA, Form.ADAPTER)
"""The forms that need nothing else to be named."""


class ExportRequest(BaseModel):
    """Asks for what a study has chosen of a task in another form."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    task: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    """The task whose adapter is exported."""
    form: Form = Form.MERGED
    """merged, onnx, peft, krona or adapter."""


class Exported(BaseModel):
    """Says what an export wrote, on the service's machine."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    folder: str
    """The folder that was written, exports/TASK-FORM in the study's."""
    difference: float
    """The largest difference between a logit of the adapter and of what was written."""
    loading: str
    """The lines of Python that load it."""


def export_apart(study: StudyFolder, asked: ExportRequest) -> Exported:
    """Writes an adapter in another form, from a process that ends with it.

    Raises:
        Refusal: there is no such task or no adapter of it yet, the form is not offered or there already, or the
            adapter can't have it.
    """
    refuse_unknown("form", "form", OFFERED, asked.form)
    refuse_unknown("task", "task", read_manifest(study.manifest).tasks, asked.task)
    adapter, to = study.adapter(asked.task), study.exports / f"{asked.task}-{asked.form}"
    if not (adapter / CARD).exists():
        raise Refusal("task", f"{study.name} has no adapter of {asked.task} yet", "wait for the study's end")
    if to.exists():
        raise Refusal("form", f"{to} is there already", "use it, or remove it first")
    with ChildProcess() as child:
        try:
            return child.call(_export, adapter, to, asked.form, seconds=EXPORT_SECONDS)
        except Refusal as refusal:
            place = "form" if refusal.place == "--format" else refusal.place
            raise Refusal(place, refusal.problem, refusal.fix.replace("--format ", "")) from None
        except (TooSlow, ProcessEnded) as error:
            raise Refusal("form", f"nothing was exported: {error}", "export it with krona-tune export") from None


def _export(adapter: Path, to: Path, form: Form) -> Exported:
    from krona_tune.train.export import export_adapter  # imports torch, which the service needs not

    found = export_adapter(adapter, to, form)
    return Exported(folder=str(found.folder), difference=found.difference, loading=found.loading)
