"""Reads which tasks a request names."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from krona_tune.data.file_task import file_task
from krona_tune.data.tasks import GLUE, TASKS
from krona_tune.hub import home
from krona_tune.refusal import Refusal, unknown
from krona_tune.study.request.loader import load_tasks, resolve_tasks
from krona_tune.study.request.study_spec import OF_GLUE

FILES = (".yaml", ".yml")


def asked_tasks(text: str, defined: Mapping[str, Any]) -> tuple[str, ...] | dict[str, Any]:
    """Returns the tasks of words separated by commas, in the order given and without repeats.

    Args:
        text: `glue`, names, files that have a key `tasks`, and files of examples, as `file_task` reads them. The name
            of a file that is there may contain commas.
        defined: the tasks that a space defines, which may be named.

    Returns:
        The names, if all are GLUE's; else a mapping as a space has it.

    Raises:
        Refusal: a word is unknown, a file can't be read, or nothing is named.
    """
    asked: dict[str, Any] = {}

    def take(word: str, task: str, described: Any) -> None:
        if asked.setdefault(task, described) != described:
            raise Refusal("--tasks", f"{word} describes {task}, which is described before", "rename one")

    for word in _words(text):
        name = word.lower().replace("-", "")
        if word.endswith(FILES):
            for task, described in load_tasks(home(Path(word))).items():
                take(word, task, described)
        elif word in defined:
            take(word, word, defined[word])
        elif name == "glue":
            for task in GLUE:
                take(word, task, OF_GLUE)
        elif name in TASKS:
            take(word, name, OF_GLUE)
        elif described := file_task(word):
            for task, each in resolve_tasks(dict([described]), Path.cwd(), "--tasks").items():
                take(word, task, each)
        elif word:
            raise unknown("--tasks", "task", word, [*TASKS, *defined, "glue"])
    if not asked:
        raise no_task(text, defined)
    return tuple(asked) if all(task == OF_GLUE for task in asked.values()) else asked


def _words(text: str) -> Iterator[str]:
    """Splits a text at its commas, but for those in a file's name, with or without columns after it."""
    parts = text.split(",")
    while parts:
        many = next((many for many in range(len(parts), 1, -1) if _is_file(parts[:many])), 1)
        yield ",".join(parts[:many]).strip()
        del parts[:many]


def _is_file(parts: list[str]) -> bool:
    """Returns whether the commas between the parts all belong to the name of a file that is there."""
    files = (",".join(parts).strip().rsplit(":", colons)[0] for colons in range(3))
    return any(file.count(",") == len(parts) - 1 and os.path.isfile(os.path.expanduser(file)) for file in files)


def no_task(asked: object, defined: Mapping[str, Any]) -> Refusal:
    """Returns the Refusal of a request that names no task."""
    return Refusal("--tasks", f"no task in {asked!r}", f"known: glue, {', '.join([*TASKS, *defined])}")
