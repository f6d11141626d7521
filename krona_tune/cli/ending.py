"""Makes every command refuse odd words, print without failing, and end with the status of its study."""

import codecs
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from inspect import signature
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from krona_tune.api.diagnosis import refuse_gone_folder
from krona_tune.api.exit_status import status_of
from krona_tune.hub import refuse_hidden_packages
from krona_tune.refusal import Refusal, refuse_unknown, shown
from krona_tune.refused_calls import FREE, refuse_odd_text
from krona_tune.search.driver_options import Outcome
from krona_tune.study.folder import StudyFolder


class RayLostExit(SystemExit):
    """Ends the program at once: a normal exit of the interpreter would wait for threads of the lost Ray."""


def exit_as(outcome: Outcome | None) -> None:
    """Ends the program with the status of a study's session; None: nothing was run."""
    if outcome is None:
        return
    status = status_of(outcome)
    if outcome.lost:
        raise RayLostExit(status)
    if status:
        raise typer.Exit(status)


def this_command() -> str:
    """Returns the command that this program was started with."""
    program, *words = sys.argv
    match Path(program).name:
        case "__main__.py":
            return shlex.join(["python", "-m", "krona_tune", *words])
        case "-c":  # a driver that another process has started
            return shlex.join(["krona-tune", *words])
        case _:
            return shlex.join(["python", *sys.argv])


def command_of(folder: StudyFolder, *, begun: bool) -> str:
    """Returns what a person types for what a queue has started by words of its own."""
    if begun:
        return shlex.join(["krona-tune", "resume", folder.name])
    return shlex.join(["krona-tune", "run", "--space", folder.spec.name, "--name", folder.name])


class QuietFlags:
    """Shows no type behind a flag that is on or off: `--help` would print `<bool>`, as if it took a value."""

    def get_params(self, ctx: Any) -> Any:
        found = super().get_params(ctx)  # type: ignore[misc]
        for each in found:
            if getattr(each, "is_flag", False):
                each.metavar = ""
        return found


NAMED_ONCE = {"tasks": "with commas between the tasks", "columns": "with a comma between the columns"}
"""Flags that take several things in one text; of one that is given again, the last alone would count."""


class CheckedProgram(QuietFlags, TyperGroup):
    """The program with its commands."""


class CheckedCommand(QuietFlags, TyperCommand):
    """A command whose texts are not empty, as an unset variable of the shell leaves them, and can be names of files,
    and whose words of a fixed list are some of that list.

    It checks the words as they were given, because an empty path would become the current folder.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words, given = self._parsed(ctx, args)
        for name, times in Counter(each.name for each in given).items():
            if name in NAMED_ONCE and times > 1:
                raise Refusal(f"--{name}", f"it is given {times} times", f"give it once, {NAMED_ONCE[name]}")
        for parameter in self.params:
            name = str(parameter.name)
            place = parameter.opts[-1] if parameter.param_type_name == "option" else name.upper()
            for text in _texts(words.get(name)):
                refuse_odd_text(text, place, is_name=name not in FREE)
                if (listed := self._choices(name)) and "--help" not in args:
                    refuse_unknown(place, "choice", listed, text)
        return super().parse_args(ctx, args)

    def _parsed(self, ctx: Any, args: list[str]) -> tuple[dict[str, Any], list[Any]]:
        """Returns the parameters' values and which were given. Raises the Refusal of a key of the YAML that is given as
        an option to a command that sets keys."""
        try:
            words, _, given = self.make_parser(ctx).parse_args(args=list(args))
        except Exception as error:  # typer brings click's classes under names of its own
            if type(error).__name__ == "NoSuchOption" and any("--set" in each.opts for each in self.params):
                from krona_tune.study.request.validation_errors import refuse_key

                odd: str = getattr(error, "option_name", "")
                word = odd.removeprefix("--").replace("-", "_")
                refuse_key(odd, word, "option", lambda key: f"--set {key}=VALUE")
            raise
        return words, given

    def _choices(self, name: str) -> list[str]:
        """Returns the words that a parameter may be, if its annotation is a list of words."""
        known = signature(self.callback).parameters if self.callback else {}
        parts = get_args(known[name].annotation) if name in known else ()
        kinds = [each for part in parts for each in (part, *get_args(part)) if isinstance(each, type)]
        return [str(member) for kind in kinds if issubclass(kind, Enum) for member in kind]

    def invoke(self, ctx: Any) -> Any:
        refuse_gone_folder()
        refuse_hidden_packages()
        return super().invoke(ctx)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Sequence):
        yield from (each for each in value if isinstance(each, str))


PLAIN = {
    "…": "...", "×": "x", "⊗": "x", "–": "-", "−": "-", "→": "->", "≈": "~", "±": "+-", "·": ".", "ᵏ": "^k", "η": "eta",
    "“": '"', "”": '"',
}  # fmt: skip
"""Replacements for signs that an encoding lacks; any other sign becomes a question mark."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Handles encoding errors for `codecs` by replacing signs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("plain", _plain)


class _UnfailingFile(FileIO):
    """A file that accepts every write and remembers the first one that failed."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.problem = self.problem or error
            return len(data)


def print_answer(text: str) -> None:
    """Writes a part of what a person asked for to standard output, as it is.

    Raises:
        Refusal: its encoding lacks a sign.
        SystemExit: nobody reads it any more, or it can't be written, which `Output.lost` tells.
    """
    if sys.stdout is None:
        return
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError as error:
        sign = shown(text[error.start])
        fix = "write a file with --output, or set PYTHONIOENCODING=utf-8"
        raise Refusal("standard output", f"its encoding, {error.encoding}, lacks {sign}", fix) from None
    sys.stdout.write(text)
    sys.stdout.flush()
    file = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(file, _UnfailingFile) and file.problem:
        sys.exit(0)


class Output:
    """Standard output and error of this process, made unfailing until `give_back` is called."""

    def __init__(self) -> None:
        self._before = sys.stdout, sys.stderr
        self._files: list[_UnfailingFile] = []
        sys.stdout, sys.stderr = self._unfailing(sys.stdout, "plain"), self._unfailing(sys.stderr, "backslashreplace")

    def lost(self) -> OSError | None:
        """Returns the error of the first write that failed, if any."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        return next((file.problem for file in self._files if file.problem), None)

    def give_back(self) -> None:
        """Restores both streams."""
        sys.stdout, sys.stderr = self._before

    def _unfailing(self, stream: TextIO, errors: str) -> TextIO:
        """Returns a stream on the same descriptor that never fails; `stream` itself if it has none (a notebook)."""
        try:
            file = _UnfailingFile(stream.fileno(), "w", closefd=False)
        except (AttributeError, OSError, ValueError):
            return stream
        self._files.append(file)
        eager = getattr(stream, "line_buffering", True)
        return TextIOWrapper(BufferedWriter(file), stream.encoding, errors, line_buffering=eager)
