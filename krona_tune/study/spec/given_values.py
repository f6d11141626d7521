"""Puts values from the command line into a request, and names what gave a value that is refused."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from krona_tune.refusal import LONGEST_VALUE, Refusal, shown
from krona_tune.study.spec.plain_yaml import DEEPEST, read_yaml
from krona_tune.study.spec.trial import PEFT


class Given(NamedTuple):
    """A value for a key of the request, and what gave it, such as `--set adapter.scale` or `--trials`."""

    key: str
    value: Any
    by: str


def read_given(settings: Sequence[str], overrides: Mapping[str, Any], flags: Mapping[str, str]) -> list[Given]:
    """Returns the values of settings, each a text `adapter.scale=2`, and after them those that overrides have.

    Raises:
        Refusal: a setting has no '=' or its value is no YAML.
    """
    set_by_key = [Given(key, value, flags.get(key, key)) for key, value in overrides.items() if value is not None]
    return [*map(_read_setting, settings), *set_by_key]


def _read_setting(setting: str) -> Given:
    key, equals, value = setting.partition("=")
    if not equals:
        raise Refusal("--set", f"{shown(setting)} has no '='", "write --set adapter.scale=2")
    place = f"--set {key.strip()}" if len(key) <= LONGEST_VALUE else "--set"
    return Given(key.strip(), read_yaml(value, place), place)


@contextmanager
def naming_given(path: object, given: Sequence[Given]) -> Iterator[None]:
    """Turns a refusal of a key in the file at `path` into one of what gave its value last, if the file did not."""
    try:
        yield
    except Refusal as refusal:
        raise _where_given(refusal, str(path), given) from None


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


def _where_given(refusal: Refusal, path: str, given: Sequence[Given]) -> Refusal:
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
