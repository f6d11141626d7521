"""Defines the command that exports an adapter."""

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from krona_tune.adapters.adapter_card import read_card
from krona_tune.adapters.exact_forms import DEPLOYED_AS
from krona_tune.adapters.export_forms import Form, Licence, Publication, WrittenDtype
from krona_tune.api.folders import adapter_folder
from krona_tune.api.printing import print_exported, print_pushed, warn
from krona_tune.cli import options
from krona_tune.record.storage import storage_at
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.deploy_target import DeployTarget
from krona_tune.study.request.loader import load_spec

if TYPE_CHECKING:
    from krona_tune.train.loop import TaskWork

LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
FORMS = "; ".join(f"{form}: {form.facts.words}{', of a --rank' * form.facts.needs_rank}" for form in Form)
DTYPES = ", ".join(f"of {form} {' or '.join(form.facts.dtypes)}" for form in Form if len(form.facts.dtypes) > 1)


def export(
    study: options.Holder,
    to: Annotated[Path, typer.Option("--to", help="A folder that does not exist yet, or an empty one.")],
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            help=f"{FORMS}. Without it, what the study is to be deployed as, else {Form.MERGED}.",
        ),
    ] = None,
    task: options.OfTask = None,
    storage: options.Storage = options.STUDIES,
    model: options.Backbone = None,
    dtype: Annotated[
        WrittenDtype, typer.Option(help=f"The dtype of a whole model's weights: {DTYPES}.")
    ] = WrittenDtype.FLOAT32,
    rank: Annotated[int | None, typer.Option("--rank", min=1, help="The rank of the nearest LoRA.")] = None,
    distil: Annotated[
        int | None,
        typer.Option(
            "--distil",
            metavar="RANK",
            min=1,
            help="Fit a LoRA of this rank to what the adapter computes on the training texts, from the nearest one.",
        ),
    ] = None,
    imported: options.Imported = None,
    to_hub: Annotated[
        str | None, typer.Option("--push", metavar="ORG/NAME", help="Then upload it to the model hub, as private.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: let everybody see it.")] = False,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="WORD", help="The hub's word for the licence of the backbone.")
    ] = None,
) -> None:
    """Export an adapter. The exported files are loaded back and must give the same logits, or say how near they are."""
    options.import_named(imported)
    if public and to_hub is None:
        raise Refusal("--public", "it is about what --push uploads", "add --push ORG/NAME, or leave it out")
    if distil is not None:
        form, rank = _distilled(form, rank, distil)
    folder = adapter_folder(storage_at(storage), study, task)
    form, rank = _deployed_as(folder, rank) if form is None else (form, rank)
    destination, published = None, Publication(licence=_named(licence) if licence else {})
    if to_hub:
        from krona_tune.train.hub_push import find_destination, find_licence

        destination = find_destination(to_hub, form, public=public)
        known = published.licence or find_licence(read_card(folder).backbone, model)
        published = Publication(licence=known, repo=to_hub)
    from krona_tune.train.export import export_adapter
    from krona_tune.train.export_check import free_place

    to = free_place(to)  # before the data are read
    nearly = rank or (dtype is not WrittenDtype.FLOAT32 and dtype in form.facts.dtypes)
    work = _data_of(folder, model) if nearly else None
    exported = export_adapter(
        folder,
        to,
        form,
        model=model,
        dtype=dtype,
        rank=rank,
        fitted=distil is not None,
        judged_on=work,
        published=published,
    )
    print_exported(exported, form)
    if destination:
        from krona_tune.train.hub_push import push

        print_pushed(push(destination, exported.folder), public=public)


def _distilled(form: Form | None, rank: int | None, distil: int) -> tuple[Form, int]:
    """Returns the form and the rank of a fitted LoRA. Refuses another form, and a rank that is named twice."""
    if form not in {None, Form.LORA}:
        raise Refusal("--distil", f"what it fits is a LoRA of peft, not {form}", "leave --format out")
    if rank is not None:
        raise Refusal("--rank", "--distil names the rank", "leave it out")
    return Form.LORA, distil


def _deployed_as(adapter: Path, rank: int | None) -> tuple[Form, int | None]:
    """Returns the form and the rank that the first target of an adapter's study has; merged without a target."""
    study, targets = StudyFolder(adapter.resolve().parent.parent), tuple[DeployTarget, ...]()
    if study.spec.exists():
        with suppress(Refusal):  # an adapter is exported whatever became of its study
            targets = load_spec(study.spec).deploy
    return next(((DEPLOYED_AS[each.name].form, rank or each.rank) for each in targets), (Form.MERGED, rank))


def _named(licence: str) -> Licence:
    if not LICENCE.fullmatch(licence):
        raise Refusal("--license", f"{licence!r} is no word of the hub", "name it as --license apache-2.0")
    return {"license": licence}


def _data_of(adapter: Path, model: str | None) -> "TaskWork | None":
    """Returns the data of the study that an adapter lies in, for its backbone, which `model` may name; None, after
    saying why, if they can't be read."""
    study = StudyFolder(adapter.resolve().parent.parent)
    if not study.spec.exists():
        return None
    from krona_tune.search.startup.task_data import validation_data

    try:
        return validation_data(study, read_card(adapter).task, model)
    except Refusal as refusal:
        warn(f"what it costs is not measured on validation: {refusal}")
        return None
