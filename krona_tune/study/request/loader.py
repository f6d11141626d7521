"""Turns YAML and `--set` into a StudySpec; every error names the place, the problem and the fix."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from krona_tune.refusal import LONGEST_VALUE, Refusal, refusing, shown, unknown
from krona_tune.study.folder import StudyFolder, own_input
from krona_tune.study.request.domain import Divisors, Domain
from krona_tune.study.request.plain_yaml import DEEPEST, LONGEST, dump_yaml, read_yaml
from krona_tune.study.request.study_spec import OF_GLUE, StudySpec
from krona_tune.study.request.task_spec import PartSpec
from krona_tune.study.request.trial import KNOBS, PEFT, PEFT_FIELD, SECTION_OF, SECTIONS, SIZES


class DroppedSetting(NamedTuple):
    """A former setting: `default` is the value that it had if nobody set it, `reason` says why it was removed."""

    default: Any
    reason: str


DROPPED = {
    "search.coupled": DroppedSetting(
        False, "its advantage over drawing learning rate and scale separately did not last"
    ),
    "search.transfer": DroppedSetting(False, "no gain was seen from one task's points on another within a study"),
}
"""By dotted path."""


def without_dropped(written: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Returns the values of a request, by nested keys, without the settings that were dropped.

    Raises:
        Refusal: one of them has another value than its default.
    """
    kept = dict(written)
    for path, (default, reason) in DROPPED.items():
        section, _, key = path.rpartition(".")
        settings = kept.get(section)
        if not isinstance(settings, Mapping) or key not in settings:
            continue
        if settings[key] != default:
            problem = f"{shown(settings[key])} is refused: {reason}"
            raise Refusal(f"{place}: {path}", problem, f"leave it out, or write {shown(default)}")
        kept[section] = {name: value for name, value in settings.items() if name != key}
    return kept


SET = "--set"


class GivenValue(NamedTuple):
    """A value for a key of the request, and what gave it, such as `--set adapter.scale` or `--trials`."""

    key: str
    value: Any
    by: str


def read_given(settings: Sequence[str], overrides: Mapping[str, Any], flags: Mapping[str, str]) -> list[GivenValue]:
    """Returns the values of settings, each a text `adapter.scale=2`, and after them those that overrides have.

    Raises:
        Refusal: a setting has no '=', no value, or one that is no YAML.
    """
    set_by_key = [GivenValue(key, value, flags.get(key, key)) for key, value in overrides.items() if value is not None]
    return [*map(_read_setting, settings), *set_by_key]


def _read_setting(setting: str) -> GivenValue:
    key, equals, value = setting.partition("=")
    if not equals:
        raise Refusal("--set", f"{shown(setting)} has no '='", "write --set adapter.scale=2")
    place = f"{SET} {key.strip()}" if len(key) <= LONGEST_VALUE else SET
    if not value.strip():
        raise Refusal(place, "has no value", "write one after '=', or null for none")
    return GivenValue(key.strip(), read_yaml(value, place), place)


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
    written[last] = given.value


def _where_given(refusal: Refusal, path: str, given: Sequence[GivenValue]) -> Refusal:
    if refusal.place != path and not refusal.place.startswith(f"{path}: "):
        return refusal
    key = refusal.place.removeprefix(path).removeprefix(": ").replace(": ", ".")
    for each in reversed(given):
        parent, _, last = each.key.rpartition(".")
        if parent == key and refusal.problem.startswith(f"unknown key {shown(last)}"):
            return refusal.at(each.by)
        if f"{key}.".startswith(f"{each.key}."):
            inside = key.removeprefix(each.key).replace(".", ": ", 1)
            return refusal.at(each.by + inside)
    return refusal


MOST_BYTES = 4 * LONGEST
BEYOND = 2**63
"""The smallest positive integer that no column of the records can hold."""
_FIXES = {
    "greater_than": "write a number above {gt:g}",
    "greater_than_equal": "write {ge} or more",
    "less_than": "write a number below {lt:g}",
    "less_than_equal": "write {le:,.0f} or less",
    "finite_number": "write a finite number",
    "literal_error": "write {expected}",
    "float": "write a number",
    "int": "write a whole number",
    "bool": "write true or false",
    "string_too_long": "write at most {max_length} characters",
    "too_short": "write at least {min_length}",
    "string_pattern_mismatch": "write a name of letters, digits and _, at most 40, a letter first",
    "string": "write a word, in quotes if it looks like something else",
    "tuple": "write a list, such as [a, b]",
    "dict": "write keys and values, or leave it out",
    "model": "write keys and values, or leave it out",
}
"""The fix to suggest, by pydantic's type of error or the first word of it."""


def load_spec(
    path: Path,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    flags: Mapping[str, str] | None = None,
) -> StudySpec:
    """Returns the study that a file asks for, changed by `--set PATH=VALUE` and then by the command line's own flags.

    Args:
        path: a YAML file.
        settings: texts `adapter.scale=2`, the value in YAML.
        overrides: dotted paths and values; None values are ignored.
        flags: the flag that gave an overridden path its value, by path; without one a refusal names the path.

    Raises:
        Refusal: something can't be read, is unknown or is out of range, or a setting is the study's name; it names what
            gave the value.
    """
    return load_with(path, read_given(settings, overrides or {}, flags or {}))


def load_with(path: Path, given: Sequence[GivenValue]) -> StudySpec:
    """Returns the study that a file asks for, with the values that a person gave; raises a Refusal as `load_spec`."""
    spec = spec_with(read_request(_text_of(path), str(path)), str(path), path.parent, given)
    return _with_own_inputs(spec, path.parent) if StudyFolder(path.parent).spec == path else spec


def _with_own_inputs(spec: StudySpec, study: Path) -> StudySpec:
    """Returns the request of a study with the paths of the data and the model that are kept in its folder."""
    tasks = {
        name: task.model_copy(update={"data": own_input(task.data, study)}) for name, task in spec.own_tasks.items()
    }
    return spec.model_copy(update={"model": own_input(spec.model, study), "own_tasks": tasks})


def spec_with(values: Mapping[str, Any], place: str, folder: Path, given: Sequence[GivenValue]) -> StudySpec:
    """Returns the study that plain values from `place` ask for, with those that a person gave.

    Args:
        folder: what relative paths of its own tasks are relative to.

    Raises:
        Refusal: as `load_spec`.
    """
    with naming_given(place, given):
        return _resolved_against(build_spec(with_given(values, place, given), place), folder)


EMPTY: tuple[Any, ...] = ([], (), {})
"""The lists and mappings of tasks that name none."""


def with_given(values: Mapping[str, Any], place: str, given: Sequence[GivenValue]) -> dict[str, Any]:
    """Returns the plain values of a request with those that a person gave: tasks, then settings, then flags."""
    written = deepcopy(dict(values))
    settings = [each for each in given if each.by.startswith(SET)]
    by_flag = [each for each in given if not each.by.startswith(SET)]
    refuse_name((each.key for each in settings), "--set name")
    for each in [each for each in by_flag if each.key == "tasks"]:  # first, since a setting may change a task
        _choose_tasks(written, each.value)
    for each in settings:
        put(written, each, each.by)
    for each in [each for each in by_flag if each.key != "tasks"]:
        put(written, each, f"{place}: {each.key.partition('.')[0]}")
    if written.get("tasks") in EMPTY:
        raise Refusal(f"{place}: tasks", "names no task", "name one, or leave tasks out for all of GLUE")
    return written


def parse_spec(text: str, place: str, folder: Path) -> StudySpec:
    """Returns the study that YAML asks for; relative paths of its own tasks are relative to `folder`.

    Raises:
        Refusal: something is unknown or out of range; it names `place`.
    """
    return _resolved_against(build_spec(read_request(text, place), place), folder)


def read_request(text: str, place: str) -> dict[str, Any]:
    """Returns the plain values of a request's YAML. Raises a Refusal if it holds no keys and values."""
    written = read_yaml(text, place)
    if not isinstance(written, dict):
        problem = "is empty" if written is None else f"holds {shown(written)}, not keys and values"
        raise Refusal(place, problem, "see search_spaces/")
    return written


Section = TypeVar("Section", bound=BaseModel)


def read_section(request: Mapping[str, Any], name: str, model: type[Section], *keys: str) -> Section:
    """Returns these keys of a section of a recorded request; a study of an earlier version may have others there.

    Raises:
        Refusal: it can't be read.
    """
    with refusing("study.yaml", f"its {name} can't be read", "put back what the study was begun with"):
        written = (request.get(name) or {}).items()
        return model.model_validate({key: value for key, value in written if key in keys})


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
    written["tasks"] = asked


def load_tasks(path: Path) -> dict[str, Any]:
    """Returns what a file has under its only key, `tasks`, as plain values with absolute paths.

    Raises:
        Refusal: it can't be read, has other keys, or a task is not described as it should be.
    """
    written = read_yaml(_text_of(path), str(path))
    tasks = written.get("tasks") if isinstance(written, dict) else None
    if not isinstance(tasks, dict) or not tasks:
        raise Refusal(str(path), "has no key 'tasks' with a task below it", "write tasks: {NAME: {data: FILE, …}}")
    if others := sorted(written.keys() - {"tasks"}):
        raise Refusal(str(path), f"the key {others[0]!r} is not about tasks", "write it into a space, for --space")
    return resolve_tasks(tasks, path.parent, str(path))


def resolve_tasks(tasks: Mapping[str, Any], folder: Path, place: str) -> dict[str, Any]:
    """Returns tasks as YAML writes them, checked, with absolute paths; they were relative to `folder`."""
    spec = build_spec({"model": "any", "tasks": tasks}, place)
    found = _resolved_against(spec, folder).plain()["tasks"]
    return found if isinstance(found, dict) else dict.fromkeys(found, OF_GLUE)


def tasks_defined_in(path: Path) -> dict[str, Any]:
    """Returns the tasks that a space has as a mapping, as they are written there; none if it lists names."""
    written = read_yaml(_text_of(path), str(path))
    tasks = written.get("tasks") if isinstance(written, dict) else None
    return tasks if isinstance(tasks, dict) else {}


def _resolved_against(spec: StudySpec, folder: Path) -> StudySpec:
    """Returns the spec with the paths of its own tasks absolute; they were relative to `folder`."""
    return spec.model_copy(
        update={"own_tasks": {name: task.resolved_against(folder) for name, task in spec.own_tasks.items()}}
    )


def _text_of(path: Path) -> str:
    """Returns the text of a regular file; a pipe or a device is refused because it may never end."""
    try:
        if path.exists() and not path.is_file():
            raise _unreadable(path, "it is no regular file")
        if not path.stat().st_size:  # some files in /proc have no size and never end
            return ""
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise _unreadable(path, f"it has more than {MOST_BYTES:,} bytes")
        return content.decode("utf-8")
    except OSError as error:
        raise _unreadable(path, str(error.strerror)) from None
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"byte {error.start + 1} is not UTF-8") from None


def _unreadable(path: Path, why: str) -> Refusal:
    return Refusal(str(path), f"can't be read: {why}", "give a YAML file that can be read")


def build_spec(written: Mapping[str, Any], place: str) -> StudySpec:
    """Returns the spec that plain values describe. Raises a Refusal at the first wrong one, naming `place`."""
    for key, number in _integers(written):
        if abs(number) >= BEYOND:
            raise Refusal(f"{place}: {key}", f"{shown(number)} is beyond 2^63", "write a smaller number")
    try:
        spec = StudySpec.model_validate(without_dropped(written, place))
        read = spec.settings()
        for word in (*spec.adapter, *spec.methods, *(name for domains in spec.methods.values() for name in domains)):
            word.encode()
    except ValidationError as error:
        raise refusal_of(error, StudySpec, place) from None
    except UnicodeEncodeError as error:
        raise Refusal(place, f"{shown(error.object)} is no text", "write it in UTF-8") from None
    _refuse_truths(written, read, place)
    for section, knobs in KNOBS.items():
        _check_domains(getattr(spec, section), section, knobs, place)
    for method, domains in spec.methods.items():
        _check_domains(domains, f"methods.{method}", SECTION_OF.keys() - {"method"}, place)
    return spec


def _refuse_truths(written: Mapping[str, Any], read: Mapping[str, Any], place: str) -> None:
    """Refuses true and false where a number was read from them, as Python reads 1 from true."""
    for key, truth in _integers(written):
        found = read.get(key)
        kinds = {type(each) for each in (found if isinstance(found, list) else [found])}
        if isinstance(truth, bool) and kinds & {int, float} and bool not in kinds:
            raise Refusal(f"{place}: {key}", f"{shown(truth)} is refused", "write a number")


def _integers(written: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Yields every integer of nested values, with the dotted path to it."""
    match written:
        case int():
            yield key, written
        case list() | tuple():
            for value in written:
                yield from _integers(value, key)
        case Mapping():
            for name, value in written.items():
                yield from _integers(value, f"{key}.{name}" if key else str(name))


def _check_domains(domains: Mapping[str, Domain], section: str, known: Collection[str], place: str) -> None:
    """Refuses unknown knobs, and domains with a value at an end that the trial would not accept."""
    for name, domain in domains.items():
        of_peft = name.startswith(PEFT_FIELD)  # checked against peft's own classes when the plan is made
        if name not in known and not of_peft:
            raise unknown(f"{place}: {section}", "key", name, known)
        if isinstance(domain, Divisors) and name not in SIZES:
            raise Refusal(
                f"{place}: {section}.{name.removeprefix(PEFT_FIELD)}",
                "divisors are the sizes of a factor",
                f"write them at {' or '.join(SIZES)}",
            )
        if of_peft:
            if odd := [end for end in domain.ends() if isinstance(end, float) and not isfinite(end)]:
                where = f"{place}: {section}.{name.removeprefix(PEFT_FIELD)}"
                raise Refusal(where, f"{shown(odd[0])} is refused", "write a finite number")
            continue
        model = SECTIONS[SECTION_OF[name]]
        for value in domain.ends():
            if isinstance(value, str) and name in SIZES:
                raise unknown(f"{place}: {section}.{name}", "form of a size", value, ["divisors"])
            try:
                model.model_validate({name: value}, strict=True)
            except ValidationError as error:
                raise refusal_of(error, model, f"{place}: {section}") from None


def refusal_of(error: ValidationError, model: type[BaseModel], place: str) -> Refusal:
    """Returns the Refusal of values that a model does not take: that of the deepest wrong one."""
    return next(_refusals(error, model, place))


def _refusals(error: ValidationError, model: type[BaseModel], place: str) -> Iterator[Refusal]:
    """Yields the deepest error first: if a number or a mapping is allowed, it belongs to the form that was meant.

    A key that is missing comes after one that is unknown, which is often that key misspelt.
    """
    for detail in sorted(error.errors(), key=lambda detail: (-len(detail["loc"]), detail["type"] == "missing")):
        *parents, last = map(str, detail["loc"] or ("",))
        path = [*("tasks" if part == "own_tasks" else part for part in parents if _is_key(part)), last]
        if detail["type"] == "extra_forbidden":
            owner = _model_at(model, parents)
            where = ": ".join(part for part in (place, ".".join(path[:-1])) if part)
            if owner is StudySpec and (keys := _keys_named(last)):
                yield Refusal(where, f"unknown key {shown(last)}", f"write {' or '.join(keys)}")
            yield unknown(where, "key", last, owner.model_fields.keys() - INTERNAL)
        elif detail["type"] == "missing":
            yield Refusal(place, f"the key {'.'.join(path)!r} is missing", "add it")
        elif isinstance(cause := detail.get("ctx", {}).get("error"), Refusal):
            where = ": ".join(part for part in (place, cause.place or ".".join(path)) if part)
            yield Refusal(where, cause.problem, cause.fix)
        else:
            where = ": ".join(part for part in (place, ".".join(filter(_is_key, path))) if part)
            yield Refusal(where, f"{shown(detail['input'])} is refused", _fix(detail))


INTERNAL = {"own_tasks", "reasons"}
"""The fields of a request that no person writes."""


def _keys_named(word: str) -> list[str]:
    """Returns the dotted keys of a section that end in this word."""
    sections: dict[str, Collection[str]] = {
        name: field.annotation.model_fields
        for name, field in StudySpec.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    return [f"{section}.{word}" for section, keys in (sections | KNOBS).items() if word in keys]


def _fix(detail: Any) -> str:
    kind = detail["type"]
    if fix := _FIXES.get(kind) or _FIXES.get(kind.partition("_")[0]):
        return fix.format(**detail.get("ctx", {}))
    message: str = detail["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _is_key(part: str) -> bool:
    """Returns whether a part of an error's location is a key, not an index or the name of a type."""
    return part != PartSpec.__name__ and re.fullmatch(r"[A-Za-z_]\w*", part) is not None


def _model_at(model: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    """Returns the model of values at a path, through mappings of names to models."""
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        kinds = (annotation, *get_args(annotation))
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return model


def dump_spec(spec: StudySpec) -> str:
    """Returns the spec as YAML text that `load_spec` reads back to an equal one."""
    return dump_yaml(spec.plain())
