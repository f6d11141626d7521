"""Refuses words of a command that are empty or can't be names, before they are interpreted."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand

from krona_tune.refusal import Refusal
from krona_tune.search.preflight.machine import refuse_gone_folder
from krona_tune.study.spec.place import LONGEST_NAME, LONGEST_PATH

FREE = {"settings"}
"""Parameters that hold YAML of any length instead of names."""


class CheckedCommand(TyperCommand):
    """A command whose texts are not empty, as an unset variable of the shell leaves them, and can be names of files.

    It checks the words as they were given, because an empty path would become the current folder.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in self.params:
            name = str(parameter.name)
            place = parameter.opts[-1] if parameter.param_type_name == "option" else name.upper()
            for text in _texts(words.get(name)):
                _refuse_odd(text, place, is_name=name not in FREE)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        refuse_gone_folder()
        return super().invoke(ctx)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Sequence):
        yield from (each for each in value if isinstance(each, str))


def _refuse_odd(text: str, place: str, *, is_name: bool) -> None:
    if not text.strip():
        raise Refusal(place, "its value is empty", "give one, or leave it out")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refusal(place, f"{text!r} is no text in UTF-8", "use a name in UTF-8") from None
    if not is_name:
        return
    if odd := re.search(r"[\x00-\x1f\x7f]", text):
        raise Refusal(place, f"{text!r} holds the control character {odd[0]!r}", "leave that out")
    longest = 0 if "://" in text else max(len(part.encode()) for part in text.split("/"))
    for size, most, of in ((longest, LONGEST_NAME, "in one name"), (len(text.encode()), LONGEST_PATH, "in all")):
        if size > most:
            raise Refusal(place, f"'{text[:40]}…' has {size} bytes {of}", f"use at most {most}")
