"""Reads and writes YAML of plain values: nothing is executed, no alias is expanded, and nothing is silently dropped."""

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from copy import deepcopy
from functools import lru_cache
from inspect import isroutine
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any

import yaml

from krona_tune.refusal import Refusal, shown
from krona_tune.refused_calls import refuse_misfit

LONGEST, DEEPEST = 100_000, 20
"""The most characters of a text, and the most levels of lists and mappings: more would take seconds to read."""
PLAIN_VALUES = "give words, numbers, or lists and dicts of them"
SCALARS: dict[type, Callable[[Any], Any]] = {bool: bool, str: str, Integral: int, Real: float}
"""What makes a value of a kind plain, the first kind that fits."""
_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("null", "bool", "int", "float", "str", "seq", "map")}
OTHER_BASE = re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
"""A number that YAML 1.1 reads to the base 8 or 60, as nobody means it: 010 is 8 there, and 1:30 is 90."""


class _Loader(yaml.SafeLoader):
    """A loader of words, numbers, true and false, null, lists, and mappings with words as keys.

    1e-4 is a number (YAML 1.1 wants 1.0e-4) and a date is a word. Aliases are refused, because a few lines of aliases
    to aliases mean gigabytes.
    """

    def __init__(self, text: str, place: str) -> None:
        super().__init__(text)
        self._place, self._depth = place, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise self._refusal(event, f"*{event.anchor} is an alias", "write it out")
        if self._depth == DEEPEST:
            raise self._refusal(event, f"more than {DEEPEST} lists and mappings within each other", "write them flat")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag not in _TAGS:
            raise self._refusal(node, f"the tag {shown(node.tag)} means nothing here", "write a plain value")
        try:
            value = super().construct_object(node, deep)
        except Refusal:
            raise
        except (ValueError, LookupError, AttributeError, OverflowError):
            problem = f"{shown(node.value)} can't be read as {_TAGS[node.tag]}"
            raise self._refusal(node, problem, "write a shorter number, or a word in quotes") from None
        if isinstance(value, int | float) and OTHER_BASE.fullmatch(node.value):
            raise self._refusal(node, f"{node.value} would be {value}", f"write that, or '{node.value}' in quotes")
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise self._refusal(key_node, f"the key {shown(key)} is no word", "put it in quotes")
            if key in lines:
                problem = f"the key {shown(key)} is written twice, first in line {lines[key]}"
                raise self._refusal(key_node, problem, "keep one of them")
            lines[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def _refusal(self, at: Any, problem: str, fix: str) -> Refusal:
        return Refusal(_where(self._place, at.start_mark), problem, fix)


class _Dumper(yaml.SafeDumper):
    """The dumper that fits the loader: it puts the word '1e-4' in quotes and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Returns a text with U+0085 in double quotes, where it is escaped: elsewhere it would be read as a blank."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if "\x85" in data else None)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rows if tag in _TAGS]
    for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Dumper.add_representer(str, _Dumper.represent_str)
_Loader.yaml_constructors = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in _TAGS}
for _half in (_Loader, _Dumper):
    _half.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def read_yaml(text: str, place: str) -> Any:
    """Returns YAML as plain values. Raises a Refusal with line and column if it is not YAML or has other values."""
    if len(text) > LONGEST:
        raise Refusal(place, f"more than {LONGEST:,} characters", "write a shorter request")
    return deepcopy(_parsed(text, place))


@lru_cache(maxsize=100)
def _parsed(text: str, place: str) -> Any:
    """Returns the values of a text, which is parsed once while others ask for it."""
    try:
        return _Loader(text, place).get_single_data()
    except Refusal:
        raise
    except yaml.reader.ReaderError as error:
        before = text[: error.position].split("\n")
        where = f"{place}, line {len(before)}, column {len(before[-1]) + 1}"
        raise Refusal(where, f"holds the character {text[error.position]!a}", "take it out") from None
    except yaml.MarkedYAMLError as error:
        problem = "its %-escapes are no UTF-8" if isinstance(error.__context__, UnicodeDecodeError) else error.problem
        said, tab = ", ".join(filter(None, (error.context, problem))), "'\\t'" in (problem or "")
        fix = "write blanks in place of the tab" if tab else ""
        raise Refusal(_where(place, error.problem_mark or error.context_mark), f"not YAML: {said}", fix) from None
    except (ValueError, OverflowError):  # from an escape or a %YAML line with too large a number
        raise Refusal(place, "not YAML: it holds an escape that means no character", "write the character") from None


def dump_yaml(value: Any) -> str:
    """Returns plain values as YAML text that `read_yaml` reads back to equal ones."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def plain_values(value: Any, place: str, levels: int = DEEPEST) -> Any:
    """Returns a value of a Python session as YAML has it: numbers of other packages, paths and tuples become plain.

    Raises:
        Refusal: it holds anything else; names `place` and where in it that is.
    """
    value = fspath(value) if isinstance(value, PathLike) else value
    value = value.item() if getattr(value, "shape", None) == () else value  # a number or a truth of numpy or torch
    scalar = next((make(value) for kind, make in SCALARS.items() if isinstance(value, kind)), None)
    if scalar is not None or value is None:
        return scalar
    if isinstance(value, Mapping) and levels:
        refuse_misfit(dict.fromkeys(value), Mapping[str, Any], place)
        return {str(key): plain_values(inner, f"{place}: {key}", levels - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple) and levels:
        return [plain_values(inner, place, levels - 1) for inner in value]
    fix = "name it, as in MODULE:FUNCTION or FILE.py:FUNCTION" if isroutine(value) else PLAIN_VALUES
    raise Refusal(place, f"is of the type {type(value).__name__}", fix)


def by_path(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yields a value with its path; of nested mappings all values within, such as one with `search.trials`."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from by_path(f"{path}.{name}" if path else name, inner)
    else:
        yield path, value


def _where(place: str, mark: Any) -> str:
    return f"{place}, line {mark.line + 1}, column {mark.column + 1}" if mark else place
