"""Finds search spaces: those that are shipped, and a person's own."""

import re
from contextlib import ExitStack
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from itertools import takewhile
from pathlib import Path

from krona_tune.hub import home
from krona_tune.refusal import Refusal, refuse_unknown
from krona_tune.study.request.loader import AUTO

INSTALLED = files("krona_tune") / "search_spaces"


CHECKOUT = Path(__file__).resolve().parents[2] / "search_spaces"


FOLDER: Traversable = INSTALLED if INSTALLED.is_dir() else CHECKOUT
"""Where the spaces lie: inside an installed package, which may be a zip; beside the package in a checkout."""


ENDING = ".yaml"


SPACE_NAMES = re.compile(r"[\w-]+")


SENTENCE = re.compile(r".+?[.?](?=\s|$)")


_unpacked = ExitStack()
"""Keeps the spaces that were read from a zip as files until the process ends."""


def space_names() -> list[str]:
    """Returns the names of all shipped spaces, sorted."""
    return sorted(each.name.removesuffix(ENDING) for each in FOLDER.iterdir() if each.name.endswith(ENDING))


def space_text(name: str) -> str:
    """Returns a shipped space as YAML text. Raises a Refusal if there is none of that name."""
    return _shipped(name, "NAME").read_text(encoding="utf-8")


def space_file(name: str, place: str = "--space") -> Path:
    """Returns the file of a shipped space, which lasts as long as the process. Raises a Refusal if there is none."""
    return _unpacked.enter_context(as_file(_shipped(name, place)))


def question(text: str) -> str:
    """Returns what a space asks: the first sentence of the comment below the command that runs it."""
    comment = takewhile(lambda line: line.startswith("#"), text.partition("\n#\n")[2].splitlines())
    found = SENTENCE.match(" ".join(line.removeprefix("#").strip() for line in comment))
    return found[0] if found else ""


def find_space(asked: Path, place: str) -> Path:
    """Returns the file that a person means: their own, or a shipped space if there is no file of that name.

    Raises:
        Refusal: it is a single word that names neither.
    """
    path = home(asked, place)
    is_name = SPACE_NAMES.fullmatch(str(asked)) and (path.is_dir() or not path.exists())
    return space_file(str(asked), place) if is_name else path


def _shipped(name: str, place: str) -> Traversable:
    if name == AUTO:
        raise Refusal(place, f"{AUTO!r} is no file, but made for model, data and machine", "leave the space out")
    refuse_unknown(place, "space", space_names(), name)
    return FOLDER / f"{name}{ENDING}"
