"""Refuses bad input before anything starts, naming the place, the problem and the fix."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Self

LONGEST_WORD, LONGEST_LINE, LONGEST_VALUE = 400, 300, 120
"""The most characters of a word, of an outside library's message and of a value in a refusal; the rest is cut."""

MOST_WORDS = 100
"""The most known words that a refusal lists."""
RUST = "pyo3_runtime"
"""The module that the panics of a Rust library name as theirs; they are not an Exception."""


class Refusal(ValueError):
    """Says that a request can't be met, and how a person fixes it.

    `str()` reads `place: what is wrong; fix`, for example
    `mine.yaml: adapter: unknown key 'scael', did you mean 'scale'?`

    Args:
        place: the file, key, flag or argument that is wrong; empty if the problem names it.
        problem: what is wrong with it.
        fix: what to do; empty if the problem says that.
    """

    def __init__(self, place: str, problem: str, fix: str = "") -> None:
        self.place, self.problem, self.fix = (readable(text) for text in (place, problem, fix))
        said = ": ".join(part for part in (self.place, self.problem) if part)
        super().__init__(said + (f"; {self.fix}" if self.fix else ""))

    def at(self, place: str, *, problem: str | None = None, fix: str | None = None) -> Self:
        """Returns the same refusal, of the same class, of another place; with another problem or fix if one is given.

        Args:
            place: the place, as in a new refusal.
            problem: the problem; None: the same.
            fix: the fix; None: the same.
        """
        return type(self)(place, self.problem if problem is None else problem, self.fix if fix is None else fix)

    def _render_traceback_(self) -> list[str]:
        """Returns what IPython shows of it: the message alone."""
        return [str(self)]

    def __reduce__(self) -> tuple[type["Refusal"], tuple[str, str, str]]:
        """Returns what pickle needs to make it again in another process."""
        return type(self), (self.place, self.problem, self.fix)


class NotNow(Refusal):
    """A right request that can't be met now; the same one may be met later."""


def lacking_package(place: str, package: str, extra: str = "") -> Refusal:
    """Returns the Refusal of what needs a package that is not installed; `extra` is krona_tune's extra that has it, if
    that has another name."""
    return Refusal(place, f"the package {package} is not installed", f"pip install 'krona_tune[{extra or package}]'")


def unknown(place: str, kind: str, value: object, known: Iterable[str]) -> Refusal:
    """Returns the Refusal of an unknown word; it suggests the nearest known word, or lists all of them."""
    words = sorted(known)
    short = [word for word in words if len(word) <= LONGEST_WORD]  # comparing long ones takes for ever
    given = str(value)[:LONGEST_WORD]
    near = get_close_matches(given, short, n=1, cutoff=0.5) or get_close_matches(given.lower(), short, n=1, cutoff=0.5)
    if near:
        return Refusal(place, f"unknown {kind} {shown(str(value))}, did you mean {shown(near[0])}?")
    more = f" and {len(words) - MOST_WORDS} more" if len(words) > MOST_WORDS else ""
    listed = ", ".join(map(cut, words[:MOST_WORDS])) or "none"
    return Refusal(place, f"unknown {kind} {shown(str(value))}", f"known: {listed}{more}")


def refuse_unknown(place: str, kind: str, known: Collection[Any], *given: object) -> None:
    """Refuses the first of these values that is none of the known ones, as `unknown` says it."""
    for value in given:
        if value not in known:
            raise unknown(place, kind, value, known)


@contextmanager
def refusing(place: str, problem: str, fix: str = "") -> Iterator[None]:
    """Turns any error that an outside library raises in this context into a Refusal; a Refusal passes unchanged.

    The refusal reads `place: problem (KeyError: what the library said); fix`.
    """
    try:
        yield
    except Refusal:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__ != RUST:
            raise
        raise Refusal(place, f"{problem} ({told(error)})", fix) from error


def joined(problems: Sequence[Refusal]) -> Refusal:
    """Returns a single problem as it is, and several as one Refusal with a line for each."""
    if len(problems) == 1:
        return problems[0]
    return Refusal("", f"{len(problems)} problems:" + "".join(f"\n  {each}" for each in problems))


def told(error: BaseException, line: int = 0) -> str:
    """Returns an error in one line: its class and a line of its message, by default the first; -1 is the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[line][:LONGEST_LINE]}" if lines else type(error).__name__


def shown(value: object) -> str:
    """Returns a value as a person would write it: words in quotes, and cut if it is long."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # from integers of thousands of digits and from very deep nesting
        return "a value too large to be shown"
    return cut(text)


def cut(text: str) -> str:
    """Returns a text without its middle, if it is longer than a value in a refusal may be."""
    return text if len(text) <= LONGEST_VALUE else f"{text[:80]}…{text[-20:]}"


def readable(text: str) -> str:
    """Returns the text as a terminal can show it: escapes control characters except line ends, and cuts long words."""
    visible = "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)
    return re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:80]}…{word[0][-40:]}", visible)
