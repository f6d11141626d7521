"""Reads files of one's own with `datasets`: CSV, TSV, JSON, JSON Lines, Parquet, or a data set of the hub."""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.data.file_kinds import FILE_KINDS, endings_of, file_kind
from krona_tune.data.separated_text import LACKING, find_separation, lines_of, refuse_lacking, refuse_other_encoding
from krona_tune.hub import refuse_unreadable
from krona_tune.refusal import Refusal, refusing, shown, told
from krona_tune.study.request.task_spec import HUB_PREFIX


def csv_options(path: Path, columns: Sequence[str]) -> dict[str, Any]:
    """Returns how `datasets` reads this file: every column as text, so that 007 and NA stay what they are."""
    found = find_separation(path, columns)
    import datasets

    return {
        "sep": found.separator,
        "quoting": found.quoting,
        "index_col": False,  # a row may end with a separator
        "encoding": "utf-8-sig",
        "keep_default_na": False,
        "usecols": list(dict.fromkeys(columns)),
        "features": datasets.Features({name: datasets.Value("string") for name in found.names if name in columns}),
    }


def json_options(path: Path, columns: Sequence[str]) -> dict[str, Any]:
    """Returns how `datasets` reads this file: all at once, because columns have the types of what is read first."""
    refuse_other_encoding(path)
    _refuse_null(path)
    return {"chunksize": min(path.stat().st_size, MOST_AT_ONCE)}


def parquet_options(path: Path, columns: Sequence[str]) -> dict[str, Any]:
    """Returns how `datasets` reads this file: the asked columns alone, because others may have types it lacks."""
    import datasets

    schema = pq.read_schema(path)
    refuse_lacking(schema.names, columns, str(path))
    asked = pa.schema([schema.field(name) for name in dict.fromkeys(columns)], schema.metadata)
    return {"columns": asked.names, "features": datasets.Features.from_arrow_schema(asked)}


ENDINGS = ", ".join(endings_of(kind for kind in FILE_KINDS if kind.builder))
"""The endings of the files that `datasets` reads."""
PART_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""The part that a word in a file's name, in the name of a hub's split or in a column means."""
BEGINNING = 1_000
"""The characters of a JSON file of which the first that is no blank says whether it is a list."""
MOST_SHOWN = 8
"""The most folders that a refusal names."""
MOST_AT_ONCE = 1 << 30
"""The most bytes of a JSON file that are read at once."""
MIXED = "arrow.json"
"""The type of a column of JSON whose rows hold values of several kinds."""
UNCLOSED = "EOF inside string"
EMPTY = ("corresponds to no data", "BatchSize must be greater than 0")
"""Mark a quote that is never closed, in what pandas says, and a file without a row, in what `datasets` says of it, and
of Parquet."""


@dataclass(frozen=True, kw_only=True)
class File:
    """The rows of one file: its `place` for messages, the asked columns, and the names of a column's integer labels."""

    place: str
    table: pa.Table
    names: dict[str, list[str]]

    def renamed(self, columns: Mapping[str, str]) -> "File":
        """Returns the file with other names of its columns."""
        table = self.table.rename_columns([columns[name] for name in self.table.column_names])
        return File(place=self.place, table=table, names={columns[name]: each for name, each in self.names.items()})


def read(data: str, columns: Sequence[str]) -> dict[str, list[File]]:
    """Returns the files of each part that the data have; "train" if nothing says which part a file is.

    Args:
        data: a file, a folder, or `hub:NAME[:CONFIGURATION]`.
        columns: the columns to read.

    Raises:
        Refusal: something is missing, can't be read, or lacks a column.
    """
    if data.startswith(HUB_PREFIX):
        return _of_the_hub(data, columns)
    path = Path(data)
    if path.is_dir():
        return {part: [_read_part(part, each, columns) for each in paths] for part, paths in _parts_of(path).items()}
    return {"train": [read_file(path, columns)]}


def _read_part(part: str, path: Path, columns: Sequence[str]) -> File:
    """Returns the columns of a file of a folder; of a test file without the labels says that it may be left out."""
    try:
        return read_file(path, columns)
    except Refusal as refusal:
        if part != "test" or not refusal.problem.startswith(LACKING):
            raise
        fix = "leave that file out, and hold a part out with split: {test: 0.15}"
        raise Refusal(refusal.place, refusal.problem, f"{refusal.fix}, or {fix}") from None


def read_file(path: Path, columns: Sequence[str]) -> File:
    """Returns the columns of one file. Raises a Refusal that names file, column or row."""
    kind = file_kind(path)
    if not path.exists():
        raise Refusal(str(path), "no such file or folder", "paths are relative to the YAML file that names them")
    if not kind.builder:
        raise Refusal(str(path), f"{path.suffix or 'its ending'} is not read", f"give one of {ENDINGS}")
    refuse_unreadable(path)
    if not path.stat().st_size:
        raise Refusal(str(path), "the file is empty")
    # `datasets` would find a changed file with an old date in its cache, and would keep the texts there.
    of_json = kind.builder == "json"
    with tempfile.TemporaryDirectory(prefix="krona_tune-") as cache, _reading(str(path), of_json=of_json):
        import datasets

        plain = Path(cache, "data")  # it takes a name such as a[1].csv for a pattern
        plain.symlink_to(path.absolute())
        options = resolve_name(kind.options)(path, columns)
        loaded = datasets.load_dataset(kind.builder, data_files=[str(plain)], split="train", cache_dir=cache, **options)
        found = _selected(loaded, columns, str(path))
    if not of_json:
        return found
    _refuse_mixed(found, path)
    return _with_dates_as_written(found, path)


def _refuse_null(path: Path) -> None:
    """Refuses JSON or JSON Lines with an example that is null, because pyarrow may end the process at one."""
    with path.open(encoding="utf-8-sig") as file:
        listed = file.read(BEGINNING).lstrip().startswith("[")
        file.seek(0)
        lines = (line.lstrip(" \t\ufeff").startswith("null") for line in file)
        nulls = _nulls_in_list(file.read()) if listed else lines
        row = next((number for number, null in enumerate(nulls, 1) if null), None)
    if row:
        raise Refusal(str(path), f"row {row} is null, not an example", "take it out")


def _with_dates_as_written(file: File, path: Path) -> File:
    """Returns the rows of a JSON file with the texts of which pyarrow made points in time."""
    dates = [field.name for field in file.table.schema if pa.types.is_temporal(field.type)]
    if not dates:
        return file
    with refusing(str(path), f"{dates[0]} holds dates, which can't be read as texts here", "write one object a line"):
        rows, table = _json_rows(path), file.table
        for name in dates:
            written = pa.chunked_array([pa.array([row.get(name) for row in rows], pa.string())])
            table = table.set_column(table.column_names.index(name), name, written)
    return File(place=file.place, table=table, names=file.names)


def _json_rows(path: Path) -> list[Any]:
    """Returns the examples of a JSON file, a list or one a line. Raises a ValueError at what is no JSON."""
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _refuse_mixed(file: File, path: Path) -> None:
    """Refuses a column whose rows hold values of several kinds, with the first row that is of another kind."""
    mixed = [field.name for field in file.table.schema if getattr(field.type, "extension_name", "") == MIXED]
    for name in mixed:
        with refusing(f"{path}: {name}", "holds values of several kinds", "write one kind in every row"):
            values = [(row, each[name]) for row, each in enumerate(_json_rows(path), 1) if each.get(name) is not None]
        first, usual = values[0]
        fix = "write one kind of word or number in every row"
        for row, other in values:
            if type(other) is not type(usual):
                problem = f"holds {shown(other)}, row {first} holds {shown(usual)}: they are of different kinds"
                raise Refusal(f"{path}: {name}: row {row}", problem, fix)
        raise Refusal(f"{path}: {name}: row {first}", f"holds {shown(usual)}, no word or number", fix)


def _odd_line(path: Path) -> Refusal | None:
    """Returns the Refusal of the first line of JSON Lines that is no JSON, if there is one."""
    with path.open("rb") as file:
        for number, line in lines_of(file, str(path)):
            if number == 1 and line.lstrip().startswith("["):
                return None
            with suppress(RecursionError):
                try:
                    json.loads(line.strip() or "0")
                except ValueError as error:
                    return Refusal(f"{path}:{number}", f"is no JSON ({error})", "write one object a line")
    return None


def _nulls_in_list(text: str) -> list[bool]:
    """Returns for each value of a list in JSON whether it is null; nothing of what is no such list."""
    with suppress(ValueError, RecursionError):  # `datasets` will say what is wrong with it
        return [row is None for row in json.loads(text.lstrip("\ufeff"))]
    return []


def _of_the_hub(data: str, columns: Sequence[str]) -> dict[str, list[File]]:
    name, _, configuration = data.removeprefix(HUB_PREFIX).partition(":")
    if not name.strip():
        raise Refusal(data, "names no data set", "write hub:NAME, or hub:NAME:CONFIGURATION")
    with _reading(data, "can't be fetched", "give a folder with its files, or check its name and the network"):
        import datasets

        splits = datasets.load_dataset(name, configuration or None)
    found: dict[str, list[File]] = {}
    for split, rows in splits.items():
        if part := part_of(str(split)):
            found.setdefault(part, []).append(_selected(rows, columns, f"{data}: {split}"))
    if "train" not in found:
        raise Refusal(data, f"has no split 'train'; found {', '.join(splits)}", "save it as files, and name those")
    return found


def _parts_of(folder: Path) -> dict[str, list[Path]]:
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in inside if file_kind(path).builder]
    if no_files := [path for path in files if not path.is_file()]:
        raise Refusal(
            str(no_files[0]), "has the name of a file, but is none that can be read", "take it out, or rename it"
        )
    if not files:
        folders = [path.name for path in inside if path.is_dir()]
        fix = f"name the folder that has them; there are {', '.join(folders[:MOST_SHOWN])}" if folders else ""
        raise Refusal(str(folder), f"no file with one of the endings {ENDINGS}", fix)
    found: dict[str, list[Path]] = {}
    _refuse_twins(files)
    for path in files:
        found.setdefault(part_of(path.stem), []).append(path)
    if set(found) == {""}:
        return {"train": files}
    if odd := found.get(""):
        fix = "name every file after train, validation or test, or none of them"
        raise Refusal(str(odd[0]), "its name says no part, those of other files do", fix)
    if "train" not in found:
        raise Refusal(str(folder), f"no training file; found {', '.join(path.name for path in files)}", "add train.csv")
    return found


def _refuse_twins(files: Sequence[Path]) -> None:
    """Refuses two files of one name with different endings: one is often the other in another form."""
    first: dict[str, Path] = {}
    for path in files:
        other = first.setdefault(path.stem, path)
        if other != path:
            problem = f"{other.name} and {path.name} may hold the same examples"
            raise Refusal(str(path.parent), problem, "take one out, or give them different names")


def part_of(name: str) -> str:
    """Returns the part that a word of the name says, such as in train-00000-of-00002; nothing for none or for two."""
    found = {PART_WORDS[word] for word in re.findall("[a-z]+", name.lower()) if word in PART_WORDS}
    return found.pop() if len(found) == 1 else ""


def _selected(rows: Any, columns: Sequence[str], place: str) -> File:
    """Returns the asked columns of loaded rows, memory-mapped, and the names that integer labels have there."""
    refuse_lacking(rows.column_names, columns, place)
    chosen = rows.select_columns(list(dict.fromkeys(columns)))
    names = {name: list(feature.names) for name, feature in chosen.features.items() if hasattr(feature, "names")}
    return File(place=place, table=chosen.with_format("arrow")[:], names=names)


@contextmanager
def _reading(place: str, problem: str = "can't be read", fix: str = "", *, of_json: bool = False) -> Iterator[None]:
    """Turns an error of `datasets` into a Refusal with its cause, and keeps its own messages from the terminal."""
    import datasets

    level = datasets.logging.get_verbosity()
    bars = datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        if of_json and (odd := _odd_line(Path(place))):
            raise odd from None
        if UNCLOSED in str(cause):
            row = int("".join(filter(str.isdigit, str(cause).rpartition("row")[2])) or 0)
            problem = f"a quote that opens in row {row} is never closed"
            raise Refusal(place, problem, "close it, or write a quote within a text twice") from None
        raise Refusal(
            place, "no row" if any(each in str(cause) for each in EMPTY) else f"{problem} ({told(cause)})", fix
        ) from None
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
