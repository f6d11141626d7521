"""Reads placements as people write them: roles, stacks and layers."""

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import TypeVar

from krona_tune.backbones.geometry import Role, Stack
from krona_tune.refusal import Refusal, shown, unknown

Word = TypeVar("Word", bound=StrEnum)

_NUMBER = re.compile(r"\d{1,9}")
LAYER_FORMS = "all, first 4, last 4, every other, or numbers from 0 such as 0,2,5"


@cache
def roles(text: str) -> frozenset[Role]:
    """Returns `query+value` as roles. Raises a Refusal that names the unknown word."""
    return frozenset(_words(text, Role, "role"))


@cache
def stacks(text: str) -> frozenset[Stack]:
    """Returns `encoder+decoder` as stacks. Raises a Refusal that names the unknown word."""
    return frozenset(_words(text, Stack, "stack"))


def layers(text: str, depth: int) -> tuple[int, ...]:
    """Returns the layers that `text` chooses in a stack of that depth, ascending, counted from 0.

    `every other` begins at the second layer, so that it includes the last one of an even depth.

    Raises:
        Refusal: the text has none of the known forms, or asks for a layer that the stack does not have.
    """
    every = range(depth)
    match text.split():
        case ["all"]:
            return tuple(every)
        case ["every", "other"]:
            return tuple(every[1::2]) or tuple(every)
        case ["first", count] if _NUMBER.fullmatch(count):
            return tuple(every[: _within(int(count), depth, text)])
        case ["last", count] if _NUMBER.fullmatch(count):
            return tuple(every[depth - _within(int(count), depth, text) :])
    numbers = [number.strip() for number in text.split(",")]
    if not all(map(_NUMBER.fullmatch, numbers)):
        raise Refusal("layers", f"can't be read: {shown(text)}", f"write {LAYER_FORMS}")
    chosen = sorted(set(map(int, numbers)))
    if chosen[-1] >= depth:
        raise Refusal("layers", f"{shown(text)} asks for layer {chosen[-1]}", f"the stack has 0 to {depth - 1}")
    return tuple(chosen)


def _within(count: int, depth: int, text: str) -> int:
    if not 1 <= count <= depth:
        raise Refusal("layers", f"{text!r} of a stack of {depth} layers", f"ask for 1 to {depth}")
    return count


def _words(text: str, kind: type[Word], name: str) -> Iterable[Word]:
    known = {str(member): member for member in kind}
    for word in (part.strip() for part in text.split("+")):
        if word not in known:
            raise unknown("", name, word, known)
        yield known[word]
