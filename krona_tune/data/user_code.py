"""Runs what users write, metric functions and patterns, in processes of their own, each call with a time limit.

Nothing of it is imported in this process. What it raises gets out without its message, which may quote the data.
"""

import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from krona_tune.child_process import CALL_SECONDS, ChildProcess, ProcessEnded, TooSlow
from krona_tune.data.code_files import code_digest, file_of, refuse_odd_file
from krona_tune.data.text_metrics import extracted
from krona_tune.data.withheld_error import WithheldError, withholding
from krona_tune.refusal import Refusal
from krona_tune.study.randomness import drawn_rows
from krona_tune.study.result import LARGEST_SCORE

Values = npt.NDArray[Any]
Result = TypeVar("Result")

MOST_PROCESSES = 4
"""How many processes are kept for later calls, each for the code of one folder."""
TAKES = "it takes labels and answers, and returns a number"
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
        raise Refusal(key, f"{module} has no function {name!r}", WRITTEN)


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


def end_processes() -> None:
    """Ends the processes that no call uses now; later calls start others."""
    _process.cache_clear()


def _called(key: str, named: str, place: str, function: Callable[..., Result], *arguments: object) -> Result:
    """Returns what a function returns in the process of the place's folder; refuses what comes in its stead."""
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


def _has_function(place: str) -> bool:
    with withholding(f"{place} can't be imported", _folder(place)):
        return callable(_function(place))


def _value(place: str, labels: Values, answers: Values) -> float:
    function = _function(place)
    with withholding(f"{place} failed", _folder(place)), _without_warnings():
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
    if not module.endswith(".py"):
        return import_module(module)
    sys.dont_write_bytecode = True  # it would be taken for a file that changes within a second
    sys.path.insert(0, os.path.dirname(module))  # it may import files beside it
    spec = spec_from_file_location("krona_tune_metric_" + os.path.basename(module)[: -len(".py")], module)
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Leaves warnings out, which may quote the data too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
