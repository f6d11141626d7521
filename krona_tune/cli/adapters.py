"""Defines the commands about adapters: export, predict."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from krona_tune.adapters.adapter_card import Form, Licence, Published, WrittenDtype, read_card, task_of
from krona_tune.adapters.exact_forms import DEPLOYED_AS
from krona_tune.api.folders import adapter_folder
from krona_tune.api.printing import errors, print_exported, print_pushed
from krona_tune.cli import options
from krona_tune.data.answer_files import answer_columns, answers_into, kind_of, refuse_same_columns, refuse_taken
from krona_tune.data.example_files import ExampleRows, LinesOfExamples, table_of
from krona_tune.data.tasks import Task
from krona_tune.record.storage import storage_at
from krona_tune.refusal import Refusal, refusing
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.deploy_target import DeployTarget
from krona_tune.study.request.loader import load_spec

if TYPE_CHECKING:
    from krona_tune.train.loop import TaskWork

Holder = Annotated[str, typer.Argument(metavar="STUDY|DIR", help="A study's name, or the folder of an adapter.")]
OfTask = Annotated[str | None, typer.Option("--task", help="Which of the study's adapters to take, if it has several.")]
Backbone = Annotated[str | None, typer.Option("--model", help="A hub name or local folder of the same backbone.")]
Imported = Annotated[
    str | None, typer.Option("--import", help="A module with a method of your own, which a file alone may not import.")
]
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def _import(module: str | None) -> None:
    if module:
        with refusing("--import", f"{module} can't be imported", "install it, or put its folder on PYTHONPATH"):
            import_module(module)


def export(
    study: Holder,
    to: Annotated[Path, typer.Option("--to", help="A folder that does not exist yet, or an empty one.")],
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            help="merged: a whole model; onnx: for onnxruntime; peft: for PEFT; krona: for PEFT with krona_tune; "
            "lora: the nearest LoRA; adapter: ours. Without it, what the study is to be deployed as, else merged.",
        ),
    ] = None,
    task: OfTask = None,
    storage: options.Storage = options.STUDIES,
    model: Backbone = None,
    dtype: Annotated[WrittenDtype, typer.Option(help="The dtype of a merged model's weights.")] = WrittenDtype.FLOAT32,
    rank: Annotated[int | None, typer.Option("--rank", min=1, help="The rank of the nearest LoRA.")] = None,
    imported: Imported = None,
    to_hub: Annotated[
        str | None, typer.Option("--push", metavar="ORG/NAME", help="Then upload it to the model hub, as private.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: let everybody see it.")] = False,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="WORD", help="The hub's word for the licence of the backbone.")
    ] = None,
) -> None:
    """Export an adapter. The exported files are loaded back and must give the same logits."""
    _import(imported)
    if public and to_hub is None:
        raise Refusal("--public", "it is about what --push uploads", "add --push ORG/NAME, or leave it out")
    folder = adapter_folder(storage_at(storage), study, task)
    form, rank = _deployed_as(folder, rank) if form is None else (form, rank)
    destination, published = None, Published(licence=_named(licence) if licence else {})
    if to_hub:
        from krona_tune.train.hub_push import find_destination, find_licence

        destination = find_destination(to_hub, public=public)
        known = published.licence or find_licence(read_card(folder).backbone, model)
        published = Published(licence=known, repo=to_hub)
    from krona_tune.train.export import export_adapter

    work = _data_of(folder) if form is Form.LORA and rank else None
    exported = export_adapter(
        folder, to, form, model=model, dtype=dtype, rank=rank, judged_on=work, published=published
    )
    print_exported(exported, form)
    if destination:
        from krona_tune.train.hub_push import push

        print_pushed(push(destination, exported.folder), public=public)


def _deployed_as(adapter: Path, rank: int | None) -> tuple[Form, int | None]:
    """Returns the form and the rank that the first target of an adapter's study has; merged without a target."""
    study, targets = StudyFolder(adapter.resolve().parents[1]), tuple[DeployTarget, ...]()
    if study.spec.exists():
        with suppress(Refusal):  # an adapter is exported whatever became of its study
            targets = load_spec(study.spec).deploy
    return next(((DEPLOYED_AS[each.name].form, rank or each.rank) for each in targets), (Form.MERGED, rank))


def _named(licence: str) -> Licence:
    if not LICENCE.fullmatch(licence):
        raise Refusal("--license", f"{licence!r} is no word of the hub", "name it as --license apache-2.0")
    return {"license": licence}


def _data_of(adapter: Path) -> "TaskWork | None":
    """Returns the data of the study that an adapter lies in; None, after saying why, if they can't be read."""
    study = StudyFolder(adapter.resolve().parents[1])
    if not study.spec.exists():
        return None
    from krona_tune.search.startup.task_data import validation_data

    try:
        return validation_data(study, read_card(adapter).task)
    except Refusal as refusal:
        said = escape(f"the LoRA is not judged on validation: {refusal}")
        errors.print(f"[yellow]warning:[/yellow] {said}", soft_wrap=True)
        return None


def predict(
    study: Holder,
    task: OfTask = None,
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="A file with one example per line, or a table: .csv, .jsonl or .parquet; else standard input.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="A new file for the answers: .csv, .jsonl or .parquet, or lines; else printed."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="A[,B]", help="The columns of a table that hold the texts, in their order."),
    ] = None,
    storage: options.Storage = options.STUDIES,
    model: Backbone = None,
    scores: Annotated[bool, typer.Option("--scores", help="Add each label's probability.")] = False,
    imported: Imported = None,
) -> None:
    """Answer new examples: of each line, in which a tab separates the two texts of a pair, or of each row of a table,
    whose other columns are kept. A line break in an answer of a line is \\n."""
    _import(imported)
    folder = adapter_folder(storage_at(storage), study, task)
    asked = task_of(read_card(folder), folder)
    if scores and not asked.labels:
        kind = "number" if asked.is_regression else "text"
        raise Refusal("--scores", f"{asked.title} is answered with a {kind}", "leave --scores out")
    with _examples(input_file, asked, columns) as examples:
        added = answer_columns(asked, scores=scores)
        kind_of(output, examples)
        if output:
            refuse_taken(output, examples, added)
        if examples.repeatable:
            for _ in examples.rows():  # nothing is answered if one of them is not an example
                pass
            refuse_same_columns(examples, added)
        from krona_tune.train.predict import answer_rows, ready

        def told(cut: int, of: int) -> None:
            said = f"{cut} of {of} inputs were cut to {whole.card.max_length} tokens, as in training"
            errors.print(f"[yellow]warning:[/yellow] {said}", soft_wrap=True)

        whole = ready(folder, model)
        with answers_into(output, examples, added, lambda text: typer.echo(text, nl=False)) as write:
            for row in answer_rows(whole, examples, scores=scores, told=told):
                write(row)


@contextmanager
def _examples(path: Path | None, task: Task, columns: str | None) -> Iterator[ExampleRows]:
    """Opens a file, or standard input if `path` is None, and yields its examples."""
    named = [name.strip() for name in columns.split(",")] if columns else []
    if path is None:
        if named:
            raise Refusal("--columns", "standard input holds lines, which have no columns", "name a table with --input")
        if sys.stdin is None:
            raise Refusal("--input", "standard input is closed", "name a text file")
        yield LinesOfExamples(file=sys.stdin.buffer, place="standard input", task=task)
        return
    if table := table_of(path, task, named):
        yield table
        return
    with refusing("--input", f"{path} can't be read", "name a text file"):
        file = path.open("rb")
    with file:
        yield LinesOfExamples(file=file, place=str(path), task=task)
