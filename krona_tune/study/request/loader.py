"""Turns YAML and given values into a StudySpec, or refuses them with the place, the problem and the fix."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from krona_tune.refusal import Refusal, refusing, shown, unknown
from krona_tune.study.folder import StudyFolder, own_input
from krona_tune.study.request.domain import Divisors, Domain
from krona_tune.study.request.dropped_settings import without_dropped
from krona_tune.study.request.given_values import GivenValue, naming_given, with_given
from krona_tune.study.request.plain_yaml import LONGEST, dump_yaml, read_yaml
from krona_tune.study.request.study_spec import OF_GLUE, StudySpec
from krona_tune.study.request.trial import KNOBS, PEFT_FIELD, SECTION_OF, SIZES
from krona_tune.study.request.validation_errors import refusal_of, refuse_knob

AUTO = "auto"
"""The place of a space that was made for a request, in messages and where a study is named after its space."""
MOST_BYTES = 4 * LONGEST
BEYOND = 2**63
"""The smallest positive integer that no column of the records can hold."""


def load_spec(path: Path) -> StudySpec:
    """Returns the study that a file asks for.

    Raises:
        Refusal: something can't be read, is unknown or is out of range; it names the file.
    """
    return load_with(path, ())


def load_with(path: Path, given: Sequence[GivenValue]) -> StudySpec:
    """Returns the study that a file asks for, with the values that a person gave.

    Raises:
        Refusal: as `load_spec`, or a setting is the study's name; it names the file, or what gave the value.
    """
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
        Refusal: as `load_with`.
    """
    with naming_given(place, given):
        return _resolved_against(build_spec(with_given(values, place, given), place), folder)


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
        held = "text" if isinstance(written, str) else shown(written)
        problem = "is empty" if written is None else f"holds {held}, not keys and values"
        raise Refusal(place, problem, "name a space in YAML; krona-tune spaces shows some")
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
    """Returns tasks as YAML writes them, checked, with absolute paths; they were relative to `folder`.

    The usual metric of one that names none is left out: other keys, which may follow, decide which that is.
    """
    spec = build_spec({"model": "any", "tasks": tasks}, place)
    found = _resolved_against(spec, folder).plain()["tasks"]
    if not isinstance(found, dict):
        return dict.fromkeys(found, OF_GLUE)
    named = {name for name, each in tasks.items() if isinstance(each, dict) and "metric" in each}
    return {name: each if name in named else _without_metric(each) for name, each in found.items()}


def _without_metric(task: Any) -> Any:
    return {key: value for key, value in task.items() if key != "metric"} if isinstance(task, dict) else task


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


def refuse_beyond(number: int, place: str) -> None:
    """Refuses a whole number that no record can hold."""
    if abs(number) >= BEYOND:
        raise Refusal(place, f"{shown(number)} is beyond 2^63", "write a smaller number")


def build_spec(written: Mapping[str, Any], place: str) -> StudySpec:
    """Returns the spec that plain values describe. Raises a Refusal at the first wrong one, naming `place`."""
    for key, number in _integers(written):
        refuse_beyond(number, f"{place}: {key}")
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
        for value in domain.ends():
            if isinstance(value, str) and name in SIZES:
                raise unknown(f"{place}: {section}.{name}", "form of a size", value, ["divisors"])
            refuse_knob(name, value, f"{place}: {section}")


def dump_spec(spec: StudySpec) -> str:
    """Returns the spec as YAML text that `load_spec` reads back to an equal one."""
    return dump_yaml(spec.plain())
