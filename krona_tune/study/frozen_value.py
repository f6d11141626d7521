"""Holds what the values of a study are made of: models that can't change, and kinds with their facts."""

from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class FrozenValue(BaseModel):
    """A value that can't change and takes no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FactsEnum(StrEnum):
    """Kinds of something; the value of each stands in the records, its facts beside it."""

    facts: Any

    def __new__(cls, value: str, facts: Any) -> Self:
        kind = str.__new__(cls, value)
        kind._value_, kind.facts = value, facts
        return kind
