"""Lets a refusal rise from the line of a Python session that asked for what is refused."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from krona_tune.refusal import Refusal

Given = ParamSpec("Given")
Found = TypeVar("Found")


def refusing_at_the_caller(method: Callable[Given, Found]) -> Callable[Given, Found]:
    """Lets a Refusal rise from the caller's line, without the lines of this package before it; a flag of the command
    line that it names becomes a keyword."""

    @wraps(method)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Found:
        try:
            return method(*args, **kwargs)
        except Refusal as refusal:
            place = refusal.place
            if place.startswith("--"):
                place = place.removeprefix("--").replace("-", "_")
            refused = Refusal(place, refusal.problem, refusal.fix)
        raise refused

    return call
