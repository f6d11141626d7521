"""Makes a submission of a space and of what a person gave beside it; without a space the service picks or makes one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from krona_tune.api.folders import FOLDERS, whole_path, with_whole_paths
from krona_tune.api.study_request import spec_of
from krona_tune.service.queue.entry import RequestValue, Submission
from krona_tune.study.request.given_values import GivenValue
from krona_tune.study.request.loader import dump_spec


def submission_of(name: str, space: Path | None, given: Sequence[GivenValue], **more: Any) -> Submission:
    """Returns a submission whose folders are whole paths.

    Args:
        space: the file of a space; None: none is named.
        given: what a person gave beside it.
        more: the other fields of the submission.

    Raises:
        Refusal: the space can't be read, or a value is refused.
    """
    if space is None:
        return Submission(name=name, given=tuple(map(_sent, given)), **more)
    spec = spec_of(space, [*given, GivenValue("name", name, "name")]).settled()
    return Submission(name=name, space=dump_spec(with_whole_paths(spec)), **more)


def _sent(given: GivenValue) -> RequestValue:
    is_folder = given.key in FOLDERS and isinstance(given.value, str)
    return RequestValue(key=given.key, value=whole_path(given.value) if is_folder else given.value, by=given.by)
