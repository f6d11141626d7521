"""Reads where a study's winners are to be used: names of targets, one of them with its largest rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from krona_tune.refusal import Refusal, refuse_unknown, shown
from krona_tune.study.request.field_types import MOST, listed


class TargetName(StrEnum):
    """A form in which an adapter is deployed."""

    MERGED = "merged"
    ONNX = "onnx"
    PEFT = "peft"
    KRONA = "krona"
    GGUF = "gguf"
    VLLM = "vllm"


RANKED = {TargetName.VLLM}
"""The targets that hold adapters up to a rank, which is written after a colon."""
WORDS = tuple(f"{name}:64" if name in RANKED else str(name) for name in TargetName)
"""The targets as people write them, with an example of a rank."""


@dataclass(frozen=True)
class DeployTarget:
    """A target, and the largest rank that it takes if it has one. It is written `merged` or `vllm:64`."""

    name: TargetName
    rank: int | None = None

    def __str__(self) -> str:
        return str(self.name) if self.rank is None else f"{self.name}:{self.rank}"


def read_target(text: str) -> DeployTarget:
    """Returns the target that a word names.

    Raises:
        Refusal: there is no such target, a rank is missing, or none is taken.
    """
    word, colon, rank = text.strip().partition(":")
    refuse_unknown("", "target", list(map(str, TargetName)), word)
    name = TargetName(word)
    if name not in RANKED:
        if colon:
            raise Refusal("", f"{shown(text)}: {name} has no rank", f"write {name}")
        return DeployTarget(name)
    if not (rank.isdecimal() and len(rank) <= len(str(MOST)) and 1 <= int(rank) <= MOST):
        raise Refusal("", f"{shown(text)} does not say the largest rank", f"write {name}:64")
    return DeployTarget(name, int(rank))


def _read(given: Any) -> Any:
    """Returns the targets of one text or of several, in each of which commas separate them."""
    words = listed(given)
    if not isinstance(words, Sequence) or isinstance(words, bytes):
        return given
    for word in words:
        if not isinstance(word, str | DeployTarget):
            raise Refusal("", f"{shown(word)} is no target", f"write {WORDS[0]} or {WORDS[-1]}")
    parts = (part for word in words for part in str(word).split(","))
    return tuple(dict.fromkeys(map(read_target, parts)))


Targets = Annotated[
    tuple[DeployTarget, ...], BeforeValidator(_read), PlainSerializer(lambda targets: [str(each) for each in targets])
]
"""Targets in a list, or as one text with commas."""
