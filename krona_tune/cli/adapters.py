"""The verbs about adapters: export, predict."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from krona_tune.adapters.card import read_card, task_of
from krona_tune.adapters.forms import Form, WrittenDtype
from krona_tune.cli import options
from krona_tune.cli.folders import adapter_folder
from krona_tune.cli.printing import print_departure
from krona_tune.record.remote.storage import storage_at
from krona_tune.refusal import Refusal
from krona_tune.train.examples import examples_of

Holder = Annotated[str, typer.Argument(metavar="STUDY|DIR", help="A study's name, or the folder of an adapter.")]
OfTask = Annotated[str | None, typer.Option("--task", help="Which of the study's adapters, if it has several.")]
Backbone = Annotated[str | None, typer.Option("--model", help="A hub name or local folder of the same backbone.")]


def export(
    study: Holder,
    to: Annotated[str, typer.Option("--to", help="A folder that is not there yet, or empty.")],
    form: Annotated[Form, typer.Option("--format", help="A whole model, peft's form, or ours.")] = Form.MERGED,
    task: OfTask = None,
    storage: options.Storage = options.STUDIES,
    model: Backbone = None,
    dtype: Annotated[WrittenDtype, typer.Option(help="Of a merged model's weights.")] = WrittenDtype.FLOAT32,
) -> None:
    """Writes a study's adapter in a form that leaves the house, once its outputs are proven the same."""
    if not to.strip():
        raise Refusal("--to", "it is empty", "name a folder that is not there yet")
    folder = adapter_folder(storage_at(storage), study, task)
    from krona_tune.train.departure import depart

    print_departure(depart(folder, Path(to), form, model=model, dtype=dtype), form)


def predict(
    study: Holder,
    task: OfTask = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", help="One example a line; without it, standard input.")
    ] = None,
    storage: options.Storage = options.STUDIES,
    model: Backbone = None,
    scores: Annotated[bool, typer.Option("--scores", help="Adds each label's probability.")] = False,
) -> None:
    """Answers new examples, one a line, the two texts of a pair separated by a tab."""
    folder = adapter_folder(storage_at(storage), study, task)
    asked = task_of(read_card(folder), folder)
    if scores and asked.is_regression:
        raise Refusal("--scores", f"{asked.title} is answered with a number", "leave --scores out")
    rows = examples_of(*_lines(input_file), asked)
    from krona_tune.train.predict import predictions, ready

    for prediction in predictions(ready(folder, model), rows):
        likely = [f"{probability:.4f}" for probability in prediction.probabilities if scores]
        typer.echo("\t".join([prediction.text, *likely]))


def _lines(path: Path | None) -> tuple[list[str], str]:
    """The lines of a file or of standard input, and what to call it."""
    place = str(path) if path else "standard input"
    try:
        text = (path.read_bytes() if path else sys.stdin.buffer.read()).decode("utf-8-sig")
    except OSError as error:
        raise Refusal("--input", f"{place} can't be read: {error.strerror}", "name a text file") from None
    except UnicodeDecodeError as error:
        raise Refusal("--input", f"{place} is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")], place
