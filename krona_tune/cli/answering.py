"""Defines the command that answers new examples: of a file, or by HTTP."""

import csv
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from krona_tune.adapters.adapter_card import read_card, task_of
from krona_tune.api.folders import adapter_folder
from krona_tune.api.printing import errors, say, warn
from krona_tune.cli import options
from krona_tune.cli.ending import print_answer
from krona_tune.data.answer_files import (
    answer_columns,
    answer_kind,
    answers_into,
    refuse_other_columns,
    refuse_same_columns,
    refuse_unwritable,
)
from krona_tune.data.example_files import ExampleRows, LinesOfExamples, table_examples
from krona_tune.data.file_kinds import CSV, LINES
from krona_tune.data.tasks import Task
from krona_tune.hub import home
from krona_tune.record.storage import storage_at
from krona_tune.refusal import Refusal, refusing
from krona_tune.study.formatting import format_many

SERVED = partial(typer.Option, rich_help_panel="By HTTP")
HOST, PORT = "127.0.0.1", 8301
"""Where examples are answered, unless another place is asked for."""


def predict(
    study: options.Holder,
    task: options.OfTask = None,
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
        typer.Option(
            "--columns",
            metavar="A[,B]",
            help="The columns of a table that hold the texts, in their order; one whose name has a comma in quotes.",
        ),
    ] = None,
    storage: options.Storage = options.STUDIES,
    model: options.Backbone = None,
    scores: Annotated[bool, typer.Option("--scores", help="Add each label's probability.")] = False,
    imported: options.Imported = None,
    serve: Annotated[
        bool, SERVED("--serve", help="Answer examples by HTTP until Ctrl-C: POST /predict, with JSON; /healthz.")
    ] = False,
    host: Annotated[
        str | None, SERVED(help=f"The host to listen on, {HOST} if none is named; one that others reach needs a token.")
    ] = None,
    port: Annotated[
        int | None,
        SERVED(min=0, max=65_535, help=f"The port to listen on, {PORT} if none is named; 0 for any free one."),
    ] = None,
    token_file: Annotated[Path | None, SERVED(help=options.TOKEN_HELP)] = None,
) -> None:
    """Answer new examples: of each line, in which a tab separates the two texts of a pair, or of each row of a table,
    whose other columns are kept. A line break in an answer of a line is \\n."""
    of_files = {"--input": input_file, "--output": output, "--columns": columns, "--scores": scores or None}
    of_serving = {"--host": host, "--port": port, "--token-file": token_file}
    for flag, value in (of_files if serve else of_serving).items():
        if value is not None:
            problem = "--serve reads and answers by HTTP" if serve else "it is about --serve"
            raise Refusal(flag, problem, "leave it out" if serve else "add --serve, or leave it out")
    options.import_named(imported)
    input_file, output = (path and home(path, flag) for flag, path in (("--input", input_file), ("--output", output)))
    folder = adapter_folder(storage_at(storage), study, task)
    asked = task_of(read_card(folder), folder)
    if serve:
        _serve(folder, model, host or HOST, PORT if port is None else port, token_file)
        return
    _answer_file(folder, asked, model, input_file, output, columns, scores=scores)


def _answer_file(
    folder: Path,
    asked: Task,
    model: str | None,
    input_file: Path | None,
    output: Path | None,
    columns: str | None,
    *,
    scores: bool,
) -> None:
    if scores and not asked.labels:
        kind = "number" if asked.is_regression else "text"
        raise Refusal("--scores", f"{asked.title} is answered with a {kind}", "leave --scores out")
    with _examples(input_file, asked, columns) as examples:
        added = answer_columns(asked, scores=scores)
        written = answer_kind(output, examples)
        if scores and written is LINES:
            errors.print(f"columns: {', '.join(added)}", soft_wrap=True, markup=False, highlight=False)
        if output:
            refuse_unwritable(output)
        beside = written is not LINES  # else the answers are written without the columns of the examples
        kept = added if beside else {}
        if examples.schema is not None:
            refuse_same_columns(examples.schema.names, kept)
        if examples.repeatable:
            header = written.text_writer == CSV.text_writer and examples.schema is None
            first: Mapping[str, Any] = {}
            for row in examples.rows():  # nothing is answered if one of them is not an example
                refuse_same_columns(row, kept)
                first = first or row
                if header:
                    refuse_other_columns(row, first)
        from krona_tune.train.predict import answer_rows, ready

        def told(cut: int, of: int) -> None:
            warn(f"{cut} of {of} inputs were cut to {whole.card.max_length} tokens, as in training")

        whole = ready(folder, model)
        with answers_into(output, examples, added, print_answer) as write:
            count = 0
            for row in answer_rows(whole, examples, scores=scores, told=told, kept=beside):
                write(row)
                count += 1
        if output:
            say(f"{output}: {format_many(count, 'answer')}")


def _serve(adapter: Path, model: str | None, host: str, port: int, token_file: Path | None) -> None:
    with options.needing_the_service("--serve"):
        from krona_tune.service.access_token import read_token
        from krona_tune.service.answer_server import serve_answers
    token = read_token(token_file)
    from krona_tune.train.predict import ready

    def said(address: str, task: Task) -> None:
        say(f"Answering {task.title} ({' and '.join(task.inputs)}) at {address}/predict until Ctrl-C")

    serve_answers(lambda: ready(adapter, model), host, port, token, said)


@contextmanager
def _examples(path: Path | None, task: Task, columns: str | None) -> Iterator[ExampleRows]:
    """Opens a file, or standard input if `path` is None, and yields its examples."""
    with refusing("--columns", "are no names with commas between them", "write a name with a comma in quotes"):
        named = [name.strip() for name in next(csv.reader([columns], skipinitialspace=True))] if columns else []
    if path is None:
        if named:
            raise Refusal("--columns", "standard input holds lines, which have no columns", "name a table with --input")
        if sys.stdin is None:
            raise Refusal("--input", "standard input is closed", "name a text file")
        if sys.stdin.isatty():
            texts = ", a tab between its texts" if len(task.inputs) > 1 else ""
            say(f"Write one example a line{texts}; Ctrl-D ends them, and they are answered.", to=errors)
        yield LinesOfExamples(file=sys.stdin.buffer, place="standard input", task=task)
        return
    if not os.path.exists(path):
        raise Refusal("--input", f"there is no file {path}", "name a file with examples")
    if table := table_examples(path, task, named):
        yield table
        return
    with refusing("--input", f"{path} can't be read", "name a text file"):
        file = path.open("rb")
    with file:
        yield LinesOfExamples(file=file, place=str(path), task=task)
