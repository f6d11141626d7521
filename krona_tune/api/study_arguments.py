"""Names the arguments with which a study is asked for from Python, with their types."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from krona_tune.search.start_options import StartKeywords
from krona_tune.study.settings import Keywords

Tasks = str | PathLike[str] | Sequence[str] | Mapping[str, str | Mapping[str, Any] | None] | None
"""What a request names as its tasks."""


class StudyKeywords(Keywords, StartKeywords, total=False):
    """The keywords of `Study` that its `__init__` does not name: the settings, and the options of a start."""


class StudyArguments(StudyKeywords, total=False):
    """The arguments of `Study` but the space, with their types; `Study` describes them."""

    tasks: Tasks
    model: Any
    tokenizer: Any
    name: str | None
    storage: str | PathLike[str]
    settings: Mapping[str, Any] | None
