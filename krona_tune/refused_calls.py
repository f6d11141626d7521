"""Checks what a Python session passes to krona_tune, and tells a caller what is refused in the caller's own words."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import wraps
from inspect import BoundArguments, Parameter, Signature, signature
from numbers import Number
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Unpack, get_args, get_origin, get_type_hints

from krona_tune.refusal import Refusal, shown, unknown

Given = ParamSpec("Given")
Found = TypeVar("Found")
Refused = TypeVar("Refused", bound=Refusal)

LONGEST_NAME, LONGEST_PATH = 255, 3000
"""The most bytes of a file's name on common file systems, and of a path that leaves room for a study's files."""
FREE = {"settings", "examples"}
"""Arguments and flags that hold texts of any kind instead of names."""
KEYWORDS = {f"--{name.replace('_', '-')}": name for name in (
    "all_data", "model", "name", "seeds", "space", "storage", "task", "tasks", "trial",
)} | {"--set": "settings", "--per-task": "shared"}  # fmt: skip
"""Python's keywords, by the flags of which they take the place. Those of settings are added when the function that
takes them is defined."""
FLAG = re.compile(r"(?<!\S)(--[a-z]+(?:-[a-z]+)*)( (?=[A-Z]{2}|auto\b|mini\b|pareto\b))?")
"""A flag in a sentence, and the blank before its value."""
PLACE = re.compile(r"^--[a-z-]+")
WORDS: dict[Any, str] = {
    str: "a text",
    PathLike: "a path",
    Path: "a path",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    Mapping: "a dict",
    Sequence: "a list",
    type(None): "None",
}
"""What a person gives for a type in an annotation; another type is named with its package."""


def refusing_at_the_caller(method: Callable[Given, Found]) -> Callable[Given, Found]:
    """Refuses arguments that are not of the annotated types, before the method runs, and lets every Refusal rise from
    the caller's line, without the lines of this package before it; flags of the command line become keywords there.

    A keyword that `**keywords: Unpack[...]` takes counts as left out where it is None, as the signature shows it. One
    that is `Annotated[...]` there is checked by whoever reads it.
    """
    expected = signature(method)
    typed = _typed_keywords(expected)
    keywords = {name: kind for name, kind in typed.items() if get_origin(kind) is not Annotated}
    KEYWORDS.update({f"--{name.replace('_', '-')}": name for name in typed})

    @wraps(method)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Found:
        try:
            named = {name: value for name, value in kwargs.items() if value is not None or name not in typed}
            bound = _bound(expected, _name_of(method), args, named)
            for name, value in bound.arguments.items():
                bound.arguments[name] = _checked(value, expected.parameters[name], keywords)
            return method(*bound.args, **bound.kwargs)
        except Refusal as refusal:
            refused = in_fields(refusal, KEYWORDS)
            refused = refused.at(PLACE.sub(lambda flag: flag[0][2:].replace("-", "_"), refused.place))
        raise refused

    call.__signature__ = _one_by_one(expected)  # type: ignore[attr-defined]
    return call


def in_fields(refusal: Refused, fields: Mapping[str, str], write: str = "{}=") -> Refused:
    """Returns a refusal that names the fields of a request instead of the flags that mean the same.

    Args:
        refusal: what is refused, in the words of the command line.
        fields: the fields by their flags; another flag stays.
        write: how a sentence writes a field; after `=` its value follows at once.
    """

    def named(flag: re.Match[str]) -> str:
        if flag[1] not in fields:
            return flag[0]
        return write.format(fields[flag[1]]) + ("" if write.endswith("=") else flag[2] or "")

    place = PLACE.sub(lambda flag: fields.get(flag[0], flag[0]), refusal.place)
    return refusal.at(place, problem=FLAG.sub(named, refusal.problem), fix=FLAG.sub(named, refusal.fix))


@contextmanager
def naming_fields(fields: Mapping[str, str]) -> Iterator[None]:
    """Makes refusals in this context name the fields of a request, by these flags, as `in_fields` does."""
    try:
        yield
    except Refusal as refusal:
        raise in_fields(refusal, fields, "{}") from None


def _typed_keywords(expected: Signature) -> dict[str, Any]:
    """Returns the keywords that a function takes by `**keywords: Unpack[...]`, and their types."""
    unpacked = [kind for each in expected.parameters.values() if get_origin(kind := each.annotation) is Unpack]
    return get_type_hints(get_args(unpacked[0])[0], include_extras=True) if unpacked else {}


def _one_by_one(expected: Signature) -> Signature:
    """Returns a signature with every typed keyword by itself, as help and an editor show them."""
    typed = _typed_keywords(expected)
    own = [each for each in expected.parameters.values() if each.kind is not Parameter.VAR_KEYWORD or not typed]
    kinds = {name: get_args(kind)[0] if get_origin(kind) is Annotated else kind for name, kind in typed.items()}
    words = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in kinds.items()]
    return expected.replace(parameters=[*own, *words])


def refuse_odd_text(text: str, place: str, *, is_name: bool) -> None:
    """Refuses a text that is blank or not in UTF-8; a name also if no file can be named so."""
    if not text.strip():
        raise Refusal(place, "its value is empty", "give one, or leave it out")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refusal(place, f"{text!r} is no text in UTF-8", "use a name in UTF-8") from None
    if not is_name:
        return
    if odd := re.search(r"[\x00-\x1f\x7f]", text):
        raise Refusal(place, f"{text!r} holds the control character {odd[0]!r}", "leave that out")
    longest = 0 if "://" in text else max(len(part.encode()) for part in text.split("/"))
    for size, most, of in ((longest, LONGEST_NAME, "in one name"), (len(text.encode()), LONGEST_PATH, "in all")):
        if size > most:
            raise Refusal(place, f"'{text[:40]}…' has {size} bytes {of}", f"use at most {most}")


def refuse_misfit(value: Any, kind: Any, place: str) -> None:
    """Refuses a value that is not of an annotated type, with the innermost part of it that is not."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    fitting = [each for each in kinds if _fits(value, each)]
    if not fitting:
        raise _misfit(value, kinds, place)
    match get_origin(fitting[0]), get_args(fitting[0]):
        case origin, (of_keys, of_values) if origin is Mapping:
            for key, inner in value.items():
                refuse_misfit(key, of_keys, f"{place}: key")
                refuse_misfit(inner, of_values, f"{place}: {key}")
        case origin, (of_each,) if origin is Sequence:
            for number, inner in enumerate(value):
                refuse_misfit(inner, of_each, f"{place}[{number}]")


def _fits(value: Any, kind: Any) -> bool:
    """Returns whether a value is of one annotated type, whatever it holds."""
    origin = get_origin(kind) or kind
    if origin is Any or isinstance(origin, str | TypeVar):
        return True
    if origin is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if origin is Sequence:
        return _is_list(value)
    if origin in {int, float}:
        return isinstance(value, int | origin) and not isinstance(value, bool)
    return isinstance(value, origin)


def _is_list(value: Any) -> bool:
    """Returns whether a value holds others in an order: a list, an array or a column, but no text and no table."""
    unordered = isinstance(value, str | bytes | bytearray | Mapping | Set) or hasattr(value, "columns")
    single = getattr(value, "shape", None) == ()  # an array of no dimension can't be gone through
    return isinstance(value, Iterable) and not unordered and not single


def _misfit(value: Any, kinds: Sequence[Any], place: str) -> Refusal:
    known = [word for kind in kinds for word in get_args(kind) if get_origin(kind) is Literal]
    if known and isinstance(value, str):
        return unknown(place, "word", value, known)
    written = repr(value) if value is None or isinstance(value, bool) else shown(value)
    hidden = "\n" in written or "://" in written  # a table or a model has many lines, an address may hold a password
    said = "" if hidden else f"{written} "
    *others, last = dict.fromkeys(map(_type_text, kinds))
    give = f"{', '.join(others)} or {last}" if others else last
    if hasattr(value, "columns") and any(get_origin(kind) is Sequence for kind in kinds):
        give += ", such as frame[NAMES].values.tolist()"
    return Refusal(place, f"{said}is of the type {type(value).__name__}", f"give {give}")


def _type_text(kind: Any) -> str:
    """Returns what a person gives for an annotated type, such as "a text"."""
    origin = get_origin(kind) or kind
    if origin is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return WORDS.get(origin) or f"a {origin.__name__} of {origin.__module__.partition('.')[0]}"


def as_python(value: Any) -> Any:
    """Returns a number of numpy's as one of Python's, and any other value as it is."""
    return value.item() if isinstance(value, Number) and hasattr(value, "item") else value


def _checked(value: Any, parameter: Parameter, keywords: Mapping[str, Any]) -> Any:
    """Returns an argument, in a list if it could be read only once. Raises a Refusal if it is none."""
    if parameter.kind is Parameter.VAR_KEYWORD:
        parts = {name: Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in keywords.items()}
        return {name: _checked(each, parts[name], {}) if name in parts else each for name, each in value.items()}
    name, kind = parameter.name, parameter.annotation
    if kind is Parameter.empty:
        return value
    value = list(value) if isinstance(value, Iterator) else value
    value = as_python(value)
    refuse_misfit(value, kind, name)
    if name not in FREE:
        for text in _texts(value):
            if text != parameter.default:
                refuse_odd_text(text, name, is_name=True)
    return value


def _texts(value: Any) -> Iterator[str]:
    for each in value if _is_list(value) else [value]:
        path = os.fspath(each) if isinstance(each, str | PathLike) else None
        if isinstance(path, str):
            yield path


def _bound(expected: Signature, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> BoundArguments:
    """Returns the arguments by name. Raises a Refusal if one is missing or unknown, or there are too many."""
    known = [name for name in expected.parameters if name not in {"self", "cls"}]
    takes_any = any(each.kind is Parameter.VAR_KEYWORD for each in expected.parameters.values())
    if not takes_any and (odd := sorted(kwargs.keys() - set(known))):
        raise unknown(method, "keyword", odd[0], known)
    try:
        return expected.bind(*args, **kwargs)
    except TypeError as error:
        raise Refusal(method, str(error), f"it takes {', '.join(known) or 'nothing'}") from None


def _name_of(method: Callable[..., Any]) -> str:
    return method.__qualname__.removesuffix(".__init__").rpartition(".")[2]
