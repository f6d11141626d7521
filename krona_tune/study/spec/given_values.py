"""Puts values from the command line into a request, and names what gave a value that is refused."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from krona_tune.refusal import Refusal, shown
from krona_tune.study.spec.plain_yaml import DEEPEST
from krona_tune.study.spec.trial import PEFT


class Given(NamedTuple):
    """A value for a key of the request, and what gave it, such as `--set adapter.scale` or `--trials`."""

    key: str
    value: Any
    by: str


def put(written: dict[str, Any], given: Given, refused: str) -> None:
    """Sets the value at its dotted path in nested mappings. Raises a Refusal that names `refused` if it has none."""
    *parents, last = given.key.split(".", DEEPEST)
    if parents[:1] == ["methods"] and parents[1:2] and parents[1].startswith(PEFT):  # a class's name has dots too
        parents = ["methods", given.key.removeprefix("methods.").rpartition(".")[0]]
    for parent in parents:
        inner = written.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise Refusal(refused, f"{shown(parent)} holds {shown(inner)}, not keys", "name an existing path")
        written = inner
    written[last] = given.value


def where_given(refusal: Refusal, path: str, given: Sequence[Given]) -> Refusal:
    """Returns a refusal of a key in the file as one of what gave its value last; as it is if the file itself did."""
    if refusal.place != path and not refusal.place.startswith(f"{path}: "):
        return refusal
    key = refusal.place.removeprefix(path).removeprefix(": ").replace(": ", ".")
    for each in reversed(given):
        parent, _, last = each.key.rpartition(".")
        if parent == key and refusal.problem.startswith(f"unknown key {shown(last)}"):
            return Refusal(each.by, refusal.problem, refusal.fix)
        if f"{key}.".startswith(f"{each.key}."):
            inside = key.removeprefix(each.key).replace(".", ": ", 1)
            return Refusal(each.by + inside, refusal.problem, refusal.fix)
    return refusal
