"""Reads the values that a person gives beside a file, puts them into its request, and names whose value is refused."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from json import dumps
from pathlib import Path
from typing import Any, NamedTuple

from krona_tune.refusal import LONGEST_VALUE, Refusal, shown
from krona_tune.study.request.plain_yaml import DEEPEST, by_path, read_yaml
from krona_tune.study.request.task_spec import whole_paths
from krona_tune.study.request.trial import PEFT
from krona_tune.study.settings import CHANGEABLE, FLAGS, SETTINGS, TAKES_SEVERAL, flag_of

SET = "--set"


class GivenValue(NamedTuple):
    """A value for a key of the request, and what gave it, such as `--set adapter.scale` or `--trials`."""

    key: str
    value: Any
    by: str

    @property
    def words(self) -> list[str]:
        """Returns the words of a command that give the same value."""
        return [self.by, str(self.value)] if self.by in FLAGS else [SET, f"{self.key}={dumps(self.value)}"]


def read_settings(settings: Iterable[str]) -> list[GivenValue]:
    """Returns the values of settings, each a text `adapter.scale=2` with the value in YAML.

    Raises:
        Refusal: a setting has no '=', no value, or one that is no YAML.
    """
    return list(map(_read_setting, settings))


def _read_setting(setting: str) -> GivenValue:
    key, equals, value = setting.partition("=")
    if not equals:
        raise Refusal("--set", f"{shown(setting)} has no '='", "write --set adapter.scale=2")
    place = f"{SET} {key.strip()}" if len(key) <= LONGEST_VALUE else SET
    if not value.strip():
        raise Refusal(place, "has no value", "write one after '=', or null for none")
    more = key.strip() == SETTINGS["trials"].key and value.strip().startswith("+")  # 20 to YAML
    return GivenValue(key.strip(), value.strip() if more else read_yaml(value, place), place)


def with_whole_tasks(given: GivenValue, folder: Path) -> GivenValue:
    """Returns a value with the paths of its own tasks absolute, which were relative to `folder`; others as they are."""
    first, *keys = given.key.split(".")
    if first != "tasks":
        return given
    nested = given.value
    for key in reversed(keys):
        nested = {key: nested}
    whole = whole_paths(nested, folder)
    for key in keys:
        whole = whole[key]
    return given._replace(value=whole)


def given_by(keywords: Mapping[str, Any]) -> list[GivenValue]:
    """Returns the values that keywords give to their settings, by their flags; None gives none, nor does an empty list
    where several are taken."""
    return [
        GivenValue(SETTINGS[name].key, SETTINGS[name].read(value), flag_of(name, value))
        for name, value in keywords.items()
        if value is not None and not (name in TAKES_SEVERAL and isinstance(value, list | tuple) and not value)
    ]


def changing(given: Iterable[GivenValue]) -> list[GivenValue]:
    """Returns the values, also those within a section, that a resumed study takes, the last of each key."""
    values = (GivenValue(key, value, each.by) for each in given for key, value in _keys(each))
    return list({each.key: each for each in values if each.key in CHANGEABLE}.values())


def lasting(given: Iterable[GivenValue]) -> list[GivenValue]:
    """Returns the values, and the sections with one, that a resumed study keeps as it was begun with them."""
    return [each for each in given if any(key not in CHANGEABLE for key, _ in _keys(each))]


def _keys(given: GivenValue) -> Iterator[tuple[str, Any]]:
    return by_path(given.key, given.value)


def giver(key: str, given: Sequence[GivenValue]) -> GivenValue | None:
    """Returns what gave a key its value last, itself or with a section that it is in; None if the file did."""
    return next((each for each in reversed(given) if f"{key}.".startswith(f"{each.key}.")), None)


@contextmanager
def naming_given(path: object, given: Sequence[GivenValue]) -> Iterator[None]:
    """Turns a refusal of a key in the file at `path` into one of what gave its value last, if the file did not."""
    try:
        yield
    except Refusal as refusal:
        raise _where_given(refusal, str(path), given) from None


def refuse_name(keys: Iterable[str], place: str) -> None:
    """Refuses the study's name among the keys of settings, because its folder would have another one."""
    if "name" in keys:
        raise Refusal(place, "a study is named where it is begun", "write --name")


def put(written: dict[str, Any], given: GivenValue, refused: str) -> None:
    """Sets the value at its dotted path in nested mappings. Raises a Refusal that names `refused` if it has none."""
    *parents, last = given.key.split(".", DEEPEST)
    if parents[:1] == ["methods"] and parents[1:2] and parents[1].startswith(PEFT):  # a class's name has dots too
        parents = ["methods", given.key.removeprefix("methods.").rpartition(".")[0]]
    for parent in parents:
        inner = written.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise Refusal(refused, f"{shown(parent)} holds {shown(inner)}, not keys", "name an existing path")
        written = inner
    written[last] = deepcopy(given.value)


def _where_given(refusal: Refusal, path: str, given: Sequence[GivenValue]) -> Refusal:
    if refusal.place != path and not refusal.place.startswith(f"{path}: "):
        return refusal
    key = refusal.place.removeprefix(path).removeprefix(": ").replace(": ", ".")
    within = key.split(".") if key else []
    for each in reversed(given):
        names = each.key.split(".")
        below = names[len(within) :] if names[: len(within)] == within else []
        if below and re.match(f"unknown [^']*{re.escape(shown(below[0]))}", refusal.problem):
            return refusal.at(each.by)
        if f"{key}.".startswith(f"{each.key}."):
            inside = key.removeprefix(each.key).replace(".", ": ", 1)
            return refusal.at(each.by + inside)
    return refusal


EMPTY: tuple[Any, ...] = ([], (), {})
"""The lists and mappings of tasks that name none."""


def with_given(values: Mapping[str, Any], place: str, given: Sequence[GivenValue]) -> dict[str, Any]:
    """Returns the plain values of a request with those that a person gave: tasks, then settings, then flags."""
    written = deepcopy(dict(values))
    settings = [each for each in given if each.by.startswith(SET)]
    by_flag = [each for each in given if not each.by.startswith(SET)]
    refuse_name((each.key for each in settings), "--set name")
    for each in [each for each in by_flag if each.key == "tasks"]:  # first, since a setting may change a task
        if twice := next((one for one in settings if one.key == "tasks"), None):
            raise Refusal(twice.by, f"{each.by} names the tasks too", "leave one of them out")
        _choose_tasks(written, each.value)
    for each in settings:
        put(written, each, each.by)
    for each in [each for each in by_flag if each.key != "tasks"]:
        put(written, each, f"{place}: {each.key.partition('.')[0]}")
    if written.get("tasks") in EMPTY:
        raise Refusal(f"{place}: tasks", "names no task", "name one, or leave tasks out for all of GLUE")
    return written


def _choose_tasks(written: dict[str, Any], asked: Collection[str]) -> None:
    """Puts the asked tasks in place of a space's own, whose settings by task go with those that are left out."""
    defined = written.get("tasks")
    left_out = set(defined) - set(asked) if isinstance(defined, dict) else set()
    for section in ("schedule", "examples"):
        settings = written.get(section)
        for setting in settings.values() if isinstance(settings, dict) else ():
            if isinstance(setting, dict):
                for name in left_out:
                    setting.pop(name, None)
    written["tasks"] = deepcopy(asked)  # a setting may change a task, and no other request
