"""Runs what users write, metric functions and patterns, in processes of their own, each call with a time limit.

Nothing of it is imported in this process. What it raises gets out without its message, which may quote the data. A file
of code is hashed with those beside it that it imports.
"""

import ast
import hashlib
import importlib
import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from os.path import basename, dirname
from pathlib import Path
from stat import S_ISREG
from threading import Event
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from krona_tune.child_process import CALL_SECONDS, ChildProcess, ProcessEnded, TooSlow
from krona_tune.data.text_metrics import extracted
from krona_tune.refusal import Refusal, told
from krona_tune.study.randomness import drawn_rows
from krona_tune.study.result import LARGEST_SCORE

MOST_BYTES = 1_000_000
"""The most bytes of a file of code."""
MOST_FILES = 1_000
"""How many files of code are read only once by a process."""


def file_of(place: str) -> Path | None:
    """Returns the file at PATH.py:FUNCTION; None for MODULE:FUNCTION."""
    module = place.rpartition(":")[0]
    return Path(module) if module.endswith(".py") else None


def refuse_odd_file(key: str, file: Path) -> None:
    """Refuses what can't be read as a file of code: a folder, a pipe that nobody may ever write to, a huge file."""
    if not os.path.exists(file):  # also of a name that no file can have
        raise Refusal(key, f"{file} is not there", "in a YAML file paths are relative to it, else to the process")
    if not file.is_file():
        raise Refusal(key, f"{file} is no regular file", "name a file of Python code")
    if file.stat().st_size > MOST_BYTES:
        raise Refusal(key, f"{file} has more than {MOST_BYTES:,} bytes", "name a file of Python code")


def code_digest(files: Iterable[Path]) -> str:
    """Returns a hash of files and of those in their folders that they import, by name and content; empty for none."""
    lines = [f"{os.path.relpath(path, file.parent)} {digest}" for file in files for path, digest in _hashes(file)]
    return hashlib.sha256(os.fsencode("\n".join(sorted(lines)))).hexdigest() if lines else ""


def _hashes(file: Path) -> Iterator[tuple[Path, str]]:
    """Yields the file and what it imports, directly or by others, from its own folder, with the hash of each."""
    seen, waiting = set(), [file]
    while waiting:
        path = waiting.pop()
        state = _state_of(path)
        if path in seen or state is None:
            continue
        seen.add(path)
        digest, imported = _read_code(path, file.parent, state)
        yield path, digest
        waiting += imported


def _state_of(path: Path) -> tuple[int, ...] | None:
    """Returns what changes whenever a file is written; None if there is no regular file."""
    with suppress(OSError, ValueError):
        found = path.stat()
        if S_ISREG(found.st_mode):
            return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return None


@lru_cache(maxsize=MOST_FILES)
def _read_code(path: Path, folder: Path, state: tuple[int, ...]) -> tuple[str, tuple[Path, ...]]:
    """Returns the hash of a file in this state, and where the modules may be that it imports.

    Of a file that can't be read nothing is hashed, since its import says why.
    """
    source = b""
    with suppress(OSError), path.open("rb") as opened:
        source = opened.read(MOST_BYTES)
    return hashlib.sha256(source).hexdigest(), tuple(_imported(source, path, folder))


def _imported(source: bytes, path: Path, folder: Path) -> Iterator[Path]:
    """Yields where the modules may be that a file imports; nothing if it is no code."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (file for each in names for file in _modules(folder, each.name))
            case ast.ImportFrom(module=module, names=names, level=level):
                base = path.joinpath(*[".."] * level).resolve() if level else folder
                named = [f"{module}.{each.name}" if module else each.name for each in names]
                yield from (file for name in named for file in _modules(base, name))


def _modules(folder: Path, name: str) -> Iterator[Path]:
    """Yields the files that a dotted name may import: of each package in it, and of the last module."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        package = folder.joinpath(*parts[:depth])
        yield package.with_name(f"{package.name}.py")
        yield package / "__init__.py"


FROZEN = "<frozen "
"""How the files of Python's own import begin in a traceback."""


class WithheldError(RuntimeError):
    """An error without its message: `problem` says what failed, then come its kind, file and line.

    `whole` has its message too. Only what stays in the terminal may show it.
    """

    def __init__(self, problem: str, kind: str, place: str, said: str) -> None:
        super().__init__(problem, kind, place, said)
        self.problem, self.kind, self.place, self.text = problem, kind, place, said

    def __str__(self) -> str:
        return self._with(self.kind)

    @property
    def whole(self) -> str:
        return self._with(self.text)

    def _with(self, what: str) -> str:
        return f"{self.problem} ({what}{f' at {self.place}' if self.place else ''})"


@contextmanager
def withholding(problem: str, folder: str = "") -> Iterator[None]:
    """Raises a WithheldError in place of any error inside.

    Args:
        problem: what has failed.
        folder: that of the code of interest: the innermost line of it is named. Empty: the innermost line of all.
    """
    try:
        yield
    except Exception as error:
        raise WithheldError(problem, type(error).__name__, _line(error, folder), _message(error)) from None


def _message(error: Exception) -> str:
    """Returns an error with its message; without it if the error's own code fails to say it."""
    with suppress(Exception):
        return told(error)
    return type(error).__name__


def _line(error: Exception, folder: str) -> str:
    """Returns where an error was raised, as FILE:LINE; empty if that was in no code but what called it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{basename(error.filename)}:{error.lineno}"
    _, caller, *inner = traceback.extract_tb(error.__traceback__)
    passed = (caller.filename, importlib.__file__)
    frames = [each for each in inner if each.filename not in passed and not each.filename.startswith(FROZEN)]
    ours = [frame for frame in frames if folder and dirname(frame.filename) == folder]
    return next((f"{basename(frame.filename)}:{frame.lineno}" for frame in reversed(ours or frames)), "")


Values = npt.NDArray[Any]
Result = TypeVar("Result")

MOST_PROCESSES = 4
"""How many processes are kept for later calls, each for the code of one folder."""
LABELS_AS = "labels are texts, such as '1'"
TAKES = f"it takes labels and answers, and returns a number; {LABELS_AS}, but numbers of a regression"
WRITTEN = "write MODULE:FUNCTION, or FILE.py:FUNCTION beside the YAML file"
FASTER = "make it faster, or write another"


class NoValue(Refusal):
    """A function that raised an error, or returned no finite number: it may have a value for other examples."""


def check_function(key: str, place: str) -> None:
    """Refuses a place that holds no function.

    Args:
        key: the YAML key that names it, for messages.
        place: MODULE:FUNCTION, or PATH.py:FUNCTION.
    """
    try:
        found = _called(key, place, place, _has_function, place)
    except NoValue as refusal:
        raise Refusal(refusal.place, refusal.problem, WRITTEN) from refusal.__cause__
    if not found:
        module, _, name = place.rpartition(":")
        fix = f"write the program's file, as in FILE.py:{name}" if module == "__main__" else WRITTEN
        raise Refusal(key, f"{module} has no function {name!r}", fix)


def function_value(key: str, place: str, labels: Values, answers: Values) -> float:
    """Returns what the function at a place says of labels and answers, (n,) each.

    Raises:
        NoValue: it raises an error or returns no finite number.
        Refusal: there is no function, it is too slow, or it ends its process.
    """
    check_function(key, place)  # the import has a time limit of its own
    value = _called(key, place, place, _value, place, labels, answers)
    if not math.isfinite(value):
        raise NoValue(key, f"{place} returned {value}", TAKES)
    return value


def function_on_draws(key: str, place: str, labels: Values, answers: Values, task: str, draws: int) -> Values:
    """Returns what the function says of each of a task's draws of the examples; NaN where it has no finite value.

    Raises:
        Refusal: as `function_value`, but for NoValue; all draws together have one time limit.
    """
    check_function(key, place)
    return _called(key, place, place, _values_on_draws, place, labels, answers, task, draws)


def extracted_texts(key: str, pattern: str, texts: Sequence[str]) -> list[str]:
    """Returns what a regular expression finds last in each text; nothing of one in which it finds nothing."""
    return _called(key, "the expression", "", _extracted_all, pattern, list(texts))


@contextmanager
def telling_messages() -> Iterator[None]:
    """Lets refusals have the messages of errors too, where they are for the terminal of who asks."""
    try:
        yield
    except Refusal as refusal:
        if isinstance(refusal.__cause__, WithheldError):
            raise type(refusal)(refusal.place, refusal.__cause__.whole, refusal.fix) from None
        raise


def _called(key: str, named: str, place: str, function: Callable[..., Result], *arguments: object) -> Result:
    """Returns what a function returns in the process of the place's folder; refuses what comes in its stead."""
    if _IMPORTS.is_set():
        fix = "put that below `if __name__ == '__main__':`, or the function into a file of its own"
        raise Refusal(key, f"{named}: its file begins a study when it is imported", fix)
    file = file_of(place)
    if file:
        refuse_odd_file(key, file)
    files = [file] if file else []
    child = _process(os.getpid(), tuple(sys.path), tuple(each.parent for each in files), code_digest(files))
    try:
        return child.call(function, *arguments, seconds=CALL_SECONDS)
    except WithheldError as error:
        raise NoValue(key, str(error), TAKES) from error
    except TooSlow as error:
        raise Refusal(key, f"{named}: {error}", FASTER) from None
    except ProcessEnded as error:
        raise Refusal(key, f"{named}: {error}", "let it return, or raise an error") from None
    except Exception as error:
        problem = f"{named}: what called it failed ({type(error).__name__})"
        raise Refusal(key, problem, "let it change nothing that it did not make") from None


@lru_cache(maxsize=MOST_PROCESSES)
def _process(owner: int, search_path: tuple[str, ...], folders: tuple[Path, ...], digest: str) -> ChildProcess:
    """Returns the process for the code of one folder, or of modules; code that has changed gets another.

    It ends when it is forgotten. A process that was forked uses none of its parent's.
    """
    return ChildProcess()


# What follows runs in such a process.

_IMPORTS = Event()
"""Is set while a file with a person's code is imported: what that calls would start another such process, and so on."""


def _has_function(place: str) -> bool:
    with withholding(f"{place} can't be imported", _folder(place)):
        return callable(_function(place))


def _value(place: str, labels: Values, answers: Values) -> float:
    function = _function(place)
    with withholding(f"{place} failed", _folder(place)), warnings.catch_warnings(action="ignore"):
        # a warning may quote the data too
        return _number(function(labels, answers))


def _number(returned: Any) -> float:
    """Returns a number as a float. Raises TypeError for what `float` would read or cut: a text, a complex number."""
    if isinstance(returned, str | bytes | bytearray) or np.iscomplexobj(returned):
        raise TypeError(f"{type(returned).__name__} is no real number")
    return float(returned)


def _values_on_draws(place: str, labels: Values, answers: Values, task: str, draws: int) -> Values:
    values = np.full(draws, math.nan)
    for draw, rows in enumerate(drawn_rows(task, len(labels), draws)):
        try:
            values[draw] = _value(place, labels[rows], answers[rows])
        except WithheldError:
            continue
    return np.where(np.abs(values) <= LARGEST_SCORE, values, math.nan)


def _extracted_all(pattern: str, texts: list[str]) -> list[str]:
    with withholding("the expression failed"):
        return [extracted(text, pattern) or "" for text in texts]


def _folder(place: str) -> str:
    file = file_of(place)
    return str(file.parent) if file else ""


@lru_cache
def _function(place: str) -> Any:
    """Returns what the place names; None if it names nothing."""
    module, _, name = place.rpartition(":")
    return getattr(_module_at(module), name, None)


@lru_cache
def _module_at(module: str) -> ModuleType:
    _IMPORTS.set()
    try:
        return _loaded(module)
    finally:
        _IMPORTS.clear()


def _loaded(module: str) -> ModuleType:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    sys.dont_write_bytecode = True  # it would be taken for a file that changes within a second
    sys.path.insert(0, dirname(module))  # it may import files beside it
    spec = spec_from_file_location("krona_tune_metric_" + basename(module)[: -len(".py")], module)
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
