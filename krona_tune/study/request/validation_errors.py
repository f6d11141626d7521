"""Turns pydantic's errors into refusals: the place, the value and the fix."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from krona_tune.refusal import Refusal, shown, unknown
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.task_spec import PartSpec
from krona_tune.study.request.trial import KNOBS, SECTION_OF, SECTIONS

FIXES = {
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
OF_COLUMN = "write the name of a column, in quotes if it looks like something else"
OF_DATA = {
    "data": "write a file, a folder or hub:NAME; other parts' files stand below split, as in split: {validation: FILE}",
    "text": "write the name of a column, or a list of two",
    **dict.fromkeys(("label", "target", "column", "group"), OF_COLUMN),
}
"""The fix by the key of a task's, where a value of another type stands."""
OF_SECTION = {"finalists": "write keys and values, such as {top: 0} for none"}
"""The fix by the section of a request that can be switched off, where no section stands."""


def refusal_of(error: ValidationError, model: type[BaseModel], place: str) -> Refusal:
    """Returns the Refusal of values that a model does not take: that of the deepest wrong one."""
    return next(_refusals(error, model, place))


def refuse_knob(name: str, value: Any, place: str) -> None:
    """Raises the Refusal of a knob's value that no trial takes; `place` is the section that it stands in."""
    model = SECTIONS[SECTION_OF[name]]
    try:
        model.model_validate({name: value}, strict=True)
    except ValidationError as error:
        raise refusal_of(error, model, place) from None


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
            more = ", or give one with --model" * (path == ["model"])
            yield Refusal(place, f"the key {'.'.join(path)!r} is missing", f"add it{more}")
        elif isinstance(cause := detail.get("ctx", {}).get("error"), Refusal):
            where = ": ".join(part for part in (place, cause.place or ".".join(path)) if part)
            yield Refusal(where, cause.problem, cause.fix)
        else:
            where = ": ".join(part for part in (place, ".".join(filter(_is_key, path))) if part)
            known = (
                OF_DATA if path[0] == "tasks" and detail["type"] in OF_TYPES else OF_SECTION if path == [last] else {}
            )
            yield Refusal(where, f"{shown(detail['input'])} is refused", known.get(last) or _fix(detail))


OF_TYPES = {"string_type", "tuple_type"}
"""Names pydantic's errors about a value of another type."""
INTERNAL = {"own_tasks", "reasons"}
"""The fields of a request that no person writes."""


def refuse_key(place: str, word: str, kind: str, write: Callable[[str], str]) -> None:
    """Raises the Refusal of a key of a request, or the end of one, that is given as if it were an option or a keyword;
    `write` says how the key is given."""
    if keys := _keys_named(word):
        raise Refusal(
            place, f"{shown(word)} is a key of the YAML and no {kind}", f"write {' or '.join(map(write, keys))}"
        )


def _keys_named(word: str) -> list[str]:
    """Returns the key of a request that is this word, or the dotted keys of its sections that end in it."""
    if word in StudySpec.model_fields.keys() - INTERNAL:
        return [word]
    sections: dict[str, Collection[str]] = {
        name: field.annotation.model_fields
        for name, field in StudySpec.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    return [f"{section}.{word}" for section, keys in (sections | KNOBS).items() if word in keys]


def _fix(detail: Any) -> str:
    kind = detail["type"]
    if fix := FIXES.get(kind) or FIXES.get(kind.partition("_")[0]):
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
