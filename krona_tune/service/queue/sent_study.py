"""Makes a submission of a space and of what a person gave beside it; without a space the service picks or makes one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from krona_tune.api.folders import FOLDERS, whole_path, whole_teacher, with_whole_paths
from krona_tune.api.study_request import spec_of
from krona_tune.data.tasks import GLUE
from krona_tune.refusal import Refusal
from krona_tune.service.queue.entry import RequestValue, Submission
from krona_tune.study.request.field_types import listed
from krona_tune.study.request.given_values import GivenValue
from krona_tune.study.request.plain_yaml import dump_yaml
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.settings import field_names, flag_of

TEACHERS = "search.warm_start"
"""The key of the studies and files of curves that a study learns from."""


def submission_of(name: str, space: Path | None, given: Sequence[GivenValue], **more: Any) -> Submission:
    """Returns a submission whose folders and files are whole paths.

    Args:
        space: the file of a space; None: none is named.
        given: what a person gave beside it; nothing: GLUE's tasks, as a run without words.
        more: the other fields of the submission.

    Raises:
        Refusal: the space can't be read, or a value is refused.
    """
    if space is None:
        asked = given or [GivenValue("tasks", list(GLUE), flag_of("tasks"))]
        return _valid(name=name, given=tuple(map(_sent, asked)), **more)
    spec = spec_of(space, [*given, GivenValue("name", name, "name")]).settled()
    return _valid(name=name, space=_text(with_whole_paths(spec)), **more)


def _valid(**fields: Any) -> Submission:
    """Returns a submission. Raises a Refusal if a field has more than a queue takes."""
    try:
        return Submission(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "the request"
        flags = {name: flag for flag, name in field_names(Submission.model_fields).items()}
        raise Refusal(flags.get(field, field), first["msg"], "send less") from None


def _text(spec: StudySpec) -> str:
    """Returns a request without a gain that nobody has written: whoever reads it could not tell it from a written one,
    which a metric without bounds needs."""
    plain = spec.plain()
    if "least_gain" not in spec.search.model_fields_set:
        del plain["search"]["least_gain"]
    return dump_yaml(plain)


def _sent(given: GivenValue) -> RequestValue:
    """Returns a value as it is sent. Raises a Refusal if JSON has none for it."""
    value = given.value
    if given.key in FOLDERS and isinstance(value, str):
        value = whole_path(value)
    elif given.key == TEACHERS and isinstance(named := listed(value), list):
        value = [whole_teacher(each) if isinstance(each, str) else each for each in named]
    try:
        value = json.loads(json.dumps(value, allow_nan=False))  # a list of several words
    except (TypeError, ValueError):
        raise Refusal(given.by, f"{value} can't be sent", "write a finite number, a text, or several of them") from None
    return RequestValue(key=given.key, value=value, by=given.by)
