"""Reads files of one's own, CSV, TSV, JSON, JSON Lines or Parquet, or a data set of the hub."""

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from krona_tune.data.file_kinds import FILE_KINDS, endings_of, file_kind
from krona_tune.data.separated_text import LACKING, find_separation, refuse_lacking, refuse_other_encoding
from krona_tune.hub import refuse_unreadable
from krona_tune.refusal import Refusal, refusing, shown, told
from krona_tune.study.request.task_spec import HUB_PREFIX

ENDINGS = ", ".join(endings_of(kind for kind in FILE_KINDS if kind.builder))
"""The endings of the files that hold examples to learn from."""
PART_WORDS = {
    word: part
    for part, words in {
        "train": "train training",
        "validation": "validation valid val dev eval evaluation",
        "test": "test testing",
    }.items()
    for first in words.split()
    for word in (first, f"{first}set", f"{first}data")
}
"""The part that a word in a file's name, in the name of a hub's split or in a column means."""
MOST_SHOWN = 8
"""The most folders that a refusal names."""
EMPTY = ("corresponds to no data", "BatchSize must be greater than 0")
"""Mark a file without a row, in what `datasets` says of it, and of Parquet."""


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


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file, or a split of a data set, and its `place` for messages. `read` returns the asked columns; it raises a
    Refusal if one is missing or can't be read."""

    place: str
    read: Callable[[Sequence[str]], File]


def sources(data: str, part: str = "train") -> dict[str, list[Source]]:
    """Returns where the examples of each part of the data are; "train" if nothing says which part a file is.

    Args:
        data: a file, a folder of files or of a data set that was saved to disk, or `hub:NAME[:CONFIGURATION]`.
        part: the part that is looked for; data that have it need no training examples.

    Raises:
        Refusal: the data have neither this part nor training examples, can't be fetched, or hold what may be a part and
            is none.
    """
    if data.startswith(HUB_PREFIX):
        return _of_the_hub(data, part)
    path = Path(data)
    if any((path / name).is_file() for name in SAVED):
        return _of_saved(path, part)
    parts = _parts_of(path, part) if path.is_dir() else {"train": [path]}
    return {
        name: [Source(place=str(each), read=partial(_read_part, name, each)) for each in paths]
        for name, paths in parts.items()
    }


def _read_part(part: str, path: Path, columns: Sequence[str]) -> File:
    """Returns the columns of a file; of a test file without the labels says that it need not be read."""
    try:
        return read_file(path, columns)
    except Refusal as refusal:
        if part != "test" or not refusal.problem.startswith(LACKING):
            raise
        fix = "hold another part out in its place with split: {test: 0.15}"
        raise refusal.at(refusal.place, fix=f"{refusal.fix}, or {fix}") from None


def read_file(path: Path, columns: Sequence[str]) -> File:
    """Returns the columns of one file. Raises a Refusal that names file, column or row."""
    kind = file_kind(path)
    if not path.exists():
        raise Refusal(
            str(path),
            "no such file or folder",
            "in a YAML file paths are relative to it, else to the process",
        )
    if not kind.builder:
        raise Refusal(str(path), f"{path.suffix or 'its ending'} is not read", f"give one of {ENDINGS}")
    refuse_unreadable(path)
    if not path.stat().st_size:
        raise Refusal(str(path), "the file is empty", "give it rows, or name another")
    found: File = resolve_name(kind.builder)(path, columns)
    return found


def file_of_csv(path: Path, columns: Sequence[str]) -> File:
    """Returns columns of CSV or TSV, each as text, so that 007 and NA stay what they are."""
    with _reading(str(path)):
        import datasets

        found = find_separation(path, columns)
        options = {
            "sep": found.separator,
            "quoting": found.quoting,
            "index_col": False,  # a row may end with a separator
            "encoding": "utf-8-sig",
            "keep_default_na": False,
            "usecols": list(dict.fromkeys(columns)),
            "features": datasets.Features({name: datasets.Value("string") for name in found.names if name in columns}),
        }
        return _loaded("csv", path, columns, options)


def file_of_parquet(path: Path, columns: Sequence[str]) -> File:
    """Returns columns of Parquet; others may have types that `datasets` lacks."""
    with _reading(str(path)):
        import datasets

        schema = pq.read_schema(path)
        refuse_lacking(schema.names, columns, str(path))
        asked = pa.schema([schema.field(name) for name in dict.fromkeys(columns)], schema.metadata)
        options = {"columns": asked.names, "features": datasets.Features.from_arrow_schema(asked)}
        return _loaded("parquet", path, columns, options)


def _loaded(builder: str, path: Path, columns: Sequence[str], options: Mapping[str, Any]) -> File:
    """Returns the columns that a builder of `datasets` reads with these options."""
    import datasets

    # it would find a changed file with an old date in its cache, and would keep the texts there
    with tempfile.TemporaryDirectory(prefix="krona_tune-") as cache:
        plain = Path(cache, "data")  # it takes a name such as a[1].csv for a pattern
        plain.symlink_to(path.absolute())
        loaded = datasets.load_dataset(builder, data_files=[str(plain)], split="train", cache_dir=cache, **options)
        return _selected(loaded, columns, str(path))


def file_of_json(path: Path, columns: Sequence[str]) -> File:
    """Returns columns of JSON, a list of objects or one object after the other, with each value as it is written.

    `datasets` would make 0 of small numbers and points in time of dates.
    """
    names, values = dict[str, None](), {name: list[Any]() for name in columns}
    for row, example in enumerate(_json_values(path), 1):
        if not isinstance(example, dict):
            raise Refusal(str(path), f"row {row} is {shown(example)}, not an example", "take it out")
        names |= dict.fromkeys(example)
        for name, found in values.items():
            found.append(example.get(name))
    if not any(values.values()):
        raise Refusal(str(path), "no row", "give it some, or name another")
    refuse_lacking(list(names), columns, str(path))
    table = pa.table({name: _json_column(found, f"{path}: {name}") for name, found in values.items()})
    return File(place=str(path), table=table, names={})


def _json_values(path: Path) -> Iterator[object]:
    """Yields the values of a file one after the other, and those of a list on their own."""
    refuse_other_encoding(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        text = file.read()
    at = _after_blanks(text, 0)
    while at < len(text):
        try:
            value, end = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            began = text.count("\n", 0, at) + 1
            found = getattr(error, "lineno", began)
            line = found if text[at] == "[" else began  # an object that is cut off is read into the next line
            more = f", in line {found}" if found != line else ""
            problem = f"is no JSON ({getattr(error, 'msg', error)}{more})"
            raise Refusal(f"{path}:{line}", problem, "write a list of objects, or one object a line") from None
        yield from value if isinstance(value, list) else [value]
        at = _after_blanks(text, end)


def _after_blanks(text: str, at: int) -> int:
    found = BLANKS.match(text, at)
    return found.end() if found else at


def _json_column(values: Sequence[Any], place: str) -> pa.Array:
    """Returns a column of one kind of value; of lists or objects, which nothing here reads, only their type."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        kinds, values = {float}, [value if value is None else float(value) for value in values]
    _refuse_mixed(values, kinds, place)
    if kinds & NOT_READ.keys():
        return pa.nulls(len(values), NOT_READ[kinds.pop()])
    with refusing(place, "holds a text that is not UTF-8", "write its characters whole"):
        return pa.array(values)


def _refuse_mixed(values: Sequence[Any], kinds: set[type], place: str) -> None:
    """Refuses a column whose rows hold values of several kinds, with the first row that is of another kind."""
    if len(kinds) < 2:
        return
    (first, usual), *others = ((row, value) for row, value in enumerate(values, 1) if value is not None)
    row, other = next((row, value) for row, value in others if type(value) is not type(usual))
    problem = f"holds {shown(other)}, row {first} holds {shown(usual)}: they are of different kinds"
    raise Refusal(f"{place}: row {row}", problem, "write one kind of word or number in every row")


def _whole_number(digits: str) -> int | float:
    """Returns a number as an integer, or as a float if it has more than 64 bits."""
    number = int(digits) if len(digits) <= 20 else LARGEST_WHOLE + 1
    return number if abs(number) <= LARGEST_WHOLE else float(digits)


def object_of_json(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of JSON. Raises a ValueError if a key stands twice in it."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


LARGEST_WHOLE = 2**63 - 1
BLANKS = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder(
    object_pairs_hook=object_of_json, parse_int=_whole_number, parse_constant=lambda word: None, strict=False
)
"""Reads a gap in NaN, and texts with tabs and line breaks in them."""
NOT_READ: dict[type, pa.DataType] = {dict: pa.struct([]), list: pa.list_(pa.null())}


def _of_the_hub(data: str, wanted: str) -> dict[str, list[Source]]:
    name, _, configuration = data.removeprefix(HUB_PREFIX).partition(":")
    if not name.strip():
        raise Refusal(data, "names no data set", "write hub:NAME, or hub:NAME:CONFIGURATION")
    with _reading(data, "can't be fetched", "give a folder with its files, or check its name and the network"):
        import datasets

        splits = datasets.load_dataset(name, configuration or None)
    return _of_splits(splits, data, wanted)


SAVED = ("dataset_dict.json", "state.json")
"""The files of which `save_to_disk` of `datasets` writes one, for several splits or for one."""


def _of_saved(folder: Path, wanted: str) -> dict[str, list[Source]]:
    with _reading(str(folder), "can't be read as what save_to_disk wrote", "write files of Parquet with to_parquet"):
        import datasets

        saved = datasets.load_from_disk(str(folder))
        splits = saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
    return _of_splits(splits, str(folder), wanted)


def _of_splits(splits: Mapping[Any, Any], data: str, wanted: str) -> dict[str, list[Source]]:
    refuse_two_words(map(str, splits), data)
    found: dict[str, list[Source]] = {}
    for split, rows in splits.items():
        if part := part_of(str(split)):
            place = f"{data}: {split}"
            found.setdefault(part, []).append(Source(place=place, read=partial(_selected, rows, place=place)))
    if not found.keys() & {"train", wanted}:
        raise Refusal(data, f"has no split 'train'; found {', '.join(splits)}", "save it as files, and name those")
    return found


def _parts_of(folder: Path, wanted: str) -> dict[str, list[Path]]:
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in inside if file_kind(path).builder]
    _refuse_passed_over([path for path in inside if path.is_file()])
    if no_files := [path for path in files if not path.is_file()]:
        raise Refusal(
            str(no_files[0]), "has the name of a file, but is none that can be read", "take it out, or rename it"
        )
    if not files:
        folders = [path.name for path in inside if path.is_dir()]
        fix = f"name the folder that has them; there are {', '.join(folders[:MOST_SHOWN])}" if folders else ""
        raise Refusal(str(folder), f"no file with one of the endings {ENDINGS}", fix)
    for path in inside:
        if path.is_dir() and part_of(path.name):
            _refuse_passed_over_folder(path)
    found: dict[str, list[Path]] = {}
    _refuse_twins(files)
    refuse_two_words([path.stem for path in files], str(folder))
    for path in files:
        found.setdefault(part_of(path.stem), []).append(path)
    if set(found) == {""}:
        return {"train": files}
    if odd := found.get(""):
        fix = "name every file after train, validation or test, or none of them"
        raise Refusal(str(odd[0]), "its name says no part, those of other files do", fix)
    if not found.keys() & {"train", wanted}:
        raise Refusal(str(folder), f"no training file; found {', '.join(path.name for path in files)}", "add train.csv")
    return found


NO_EXAMPLES = {
    ".cfg",
    ".html",
    ".ini",
    ".ipynb",
    ".log",
    ".md",
    ".pdf",
    ".png",
    ".py",
    ".sh",
    ".svg",
    ".toml",
    ".yaml",
    ".yml",
}
"""The endings of programs, notes and pictures, which lie beside examples."""


def _refuse_passed_over_folder(folder: Path) -> None:
    """Refuses a folder whose name says a part, and that holds other files than programs and notes."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in NO_EXAMPLES:
            problem = f"its name says {part_of(folder.name)}, but there are files beside it: {path.name} is not read"
            raise Refusal(str(folder), problem, "put all parts into one folder, or take it out")


def _refuse_passed_over(inside: Iterable[Path]) -> None:
    """Refuses a file whose name says a part but whose ending is not read, such as a packed one: the part would be held
    out of others in its place."""
    for path in inside:
        if file_kind(path).builder or path.suffix.lower() in NO_EXAMPLES:
            continue
        if part := part_of(path.stem):
            problem = f"its name says {part}, but {path.suffix or 'its ending'} is not read"
            raise Refusal(str(path), problem, "unpack it, or take it out")


def _refuse_twins(files: Sequence[Path]) -> None:
    """Refuses two files of one name with different endings: one is often the other in another form."""
    first: dict[str, Path] = {}
    for path in files:
        other = first.setdefault(path.stem, path)
        if other != path:
            problem = f"{other.name} and {path.name} may hold the same examples"
            raise Refusal(str(path.parent), problem, "take one out, or give them different names")


def part_of(name: str) -> str:
    """Returns the part that a word of the name says, such as in train-00000-of-00002 or ReviewsTrain; nothing for none
    or for two."""
    found = {PART_WORDS[word] for word in _part_words(name)}
    return found.pop() if len(found) == 1 else ""


def _part_words(name: str) -> set[str]:
    """Returns the words of a name that say a part; a capital after a small letter begins a word."""
    return {word.lower() for word in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)} & PART_WORDS.keys()


def refuse_two_words(names: Iterable[str], place: str) -> None:
    """Refuses names of one part that say it with different words: one of dev and eval is often meant for the test."""
    first: dict[str, str] = {}
    for name in names:
        for word in _part_words(name) if part_of(name) else ():
            other = first.setdefault(PART_WORDS[word], word)
            if other != word:
                problem = f"{other} and {word} both mean {PART_WORDS[word]}"
                raise Refusal(place, problem, "say it with one word, or take one out")


def _selected(rows: Any, columns: Sequence[str], place: str) -> File:
    """Returns the asked columns of loaded rows, memory-mapped, and the names that integer labels have there."""
    refuse_lacking(rows.column_names, columns, place)
    chosen = rows.select_columns(list(dict.fromkeys(columns)))
    names = {name: list(feature.names) for name, feature in chosen.features.items() if hasattr(feature, "names")}
    return File(place=place, table=chosen.with_format("arrow")[:], names=names)


@contextmanager
def _reading(place: str, problem: str = "can't be read", fix: str = "") -> Iterator[None]:
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
        raise Refusal(
            place, "no row" if any(each in str(cause) for each in EMPTY) else f"{problem} ({told(cause)})", fix
        ) from None
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
