"""Holds the kinds of data files, a row each: their endings, and what reads and writes them. No torch.

Functions are named as "module:name", and loaded when they are wanted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from krona_tune.refusal import Refusal


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """A kind of data file. What can't be done with it is empty.

    Attributes:
        endings: those of a file's name, in small letters.
        builder: returns examples to learn from as a `File`, from a path and the asked columns.
        columns: returns the names of a file's columns from its beginning.
        schema: returns the types of all columns from a path and the columns of the texts; empty: they are not known
            before the rows are read.
        rows: yields the place and the values of each example to answer, from the same; empty: each line is one.
        text_writer: writes answers as text, from what takes it, the examples and the answers' columns.
        file_writer: writes them to a file, from its path and the same.
        where_named: the kind as which examples to answer are read if their columns are named.
        instead: the ending of another kind that examples to answer and answers are in; they are refused in this one.
    """

    endings: tuple[str, ...]
    builder: str = ""
    columns: str = ""
    schema: str = ""
    rows: str = ""
    text_writer: str = "krona_tune.data.answer_files:write_lines"
    file_writer: str = ""
    where_named: "FileKind | None" = None
    instead: str = ""


LINES = FileKind(endings=())
"""Every file of another ending."""
CSV = FileKind(
    endings=(".csv",),
    builder="krona_tune.data.own_files:file_of_csv",
    columns="krona_tune.data.example_files:columns_of_csv",
    schema="krona_tune.data.example_files:schema_of_csv",
    rows="krona_tune.data.example_files:rows_of_csv",
    text_writer="krona_tune.data.answer_files:write_csv",
)
TSV = FileKind(
    endings=(".tsv",),
    builder="krona_tune.data.own_files:file_of_csv",
    columns="krona_tune.data.example_files:columns_of_tsv",
    where_named=CSV,
)
JSON = FileKind(endings=(".json",), builder="krona_tune.data.own_files:file_of_json", instead=".jsonl")
JSON_LINES = FileKind(
    endings=(".jsonl", ".ndjson"),
    builder="krona_tune.data.own_files:file_of_json",
    columns="krona_tune.data.example_files:columns_of_json_lines",
    rows="krona_tune.data.example_files:rows_of_json_lines",
    text_writer="krona_tune.data.answer_files:write_json_lines",
)
PARQUET = FileKind(
    endings=(".parquet",),
    builder="krona_tune.data.own_files:file_of_parquet",
    columns="krona_tune.data.example_files:columns_of_parquet",
    schema="krona_tune.data.example_files:schema_of_parquet",
    rows="krona_tune.data.example_files:rows_of_parquet",
    text_writer="",
    file_writer="krona_tune.data.answer_files:write_parquet",
)
FILE_KINDS = (CSV, TSV, JSON, JSON_LINES, PARQUET)
"""The kinds that an ending means, in the order in which messages name them."""


def file_kind(path: Path) -> FileKind:
    """Returns the kind of file that the ending of a name means."""
    return next((kind for kind in FILE_KINDS if path.suffix.lower() in kind.endings), LINES)


def refuse_instead(path: Path, place: str) -> None:
    """Refuses a file whose kind has another one in its place where examples are answered one by one."""
    if instead := file_kind(path).instead:
        problem = f"{path.name} is JSON as a whole, and examples are answered one by one"
        raise Refusal(place, problem, f"write one object a line, in a file {instead}")


def endings_of(kinds: Iterable[FileKind]) -> list[str]:
    """Returns the endings of some kinds, for messages."""
    return [ending for kind in kinds for ending in kind.endings]
