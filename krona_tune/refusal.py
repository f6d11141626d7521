"""Bad input is refused here: with the place, the value and the mend, before anything starts."""

from collections.abc import Iterable
from difflib import get_close_matches


class Refusal(ValueError):
    """A request that can't be met, said so that the person can mend it.

    `str()` reads `place: what is wrong; mend`, for example
    `search_spaces/x.yaml: adapter: unknown key 'scael', did you mean 'scale'?`
    """

    def __init__(self, place: str, problem: str, mend: str = "") -> None:
        self.place, self.problem, self.mend = place, problem, mend
        super().__init__(": ".join(part for part in (place, problem) if part) + (f"; {mend}" if mend else ""))

    def __reduce__(self) -> tuple[type["Refusal"], tuple[str, str, str]]:
        """What brings it back in another process."""
        return type(self), (self.place, self.problem, self.mend)


def unknown(place: str, kind: str, value: object, known: Iterable[str]) -> Refusal:
    """The refusal of a word that is not among the known ones, with the nearest one suggested."""
    words = sorted(known)
    near = get_close_matches(str(value), words, n=1, cutoff=0.5)
    if near:
        return Refusal(place, f"unknown {kind} {str(value)!r}, did you mean {near[0]!r}?")
    return Refusal(place, f"unknown {kind} {str(value)!r}", f"known: {', '.join(words)}")
