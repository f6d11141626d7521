"""Reads examples as people write them, one per line. No torch."""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, refusing

LONGEST_LINE = 1 << 20
"""The most bytes of a line, because an input without an end is not an example."""


def lines_of(file: BinaryIO, place: str) -> Iterator[str]:
    """Yields a file's lines without their ends, one at a time; a file without any has one that is empty.

    Raises:
        Refusal: a line can't be read, is not UTF-8, or is longer than any example.
    """
    number = 0
    while (line := _line(file, place)) or not number:
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > LONGEST_LINE:
            raise Refusal("--input", f"{place}: line {number} is longer than {LONGEST_LINE:,} bytes", "split it")
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            problem = f"{place}: line {number} is not UTF-8 at byte {error.start}"
            raise Refusal("--input", problem, "save it as UTF-8") from None


def _line(file: BinaryIO, place: str) -> bytes:
    with refusing("--input", f"{place} can't be read", "name a text file"):
        return file.readline(LONGEST_LINE + 1)


def examples_of(lines: Iterable[str], place: str, task: Task) -> Iterator[tuple[str, ...]]:
    """Yields each line's texts, which a tab separates. Raises a Refusal that names a line with too many or too few."""
    for number, line in enumerate(lines, start=1):
        row = tuple(line.split("\t"))
        refuse_misshapen(row, task, f"{place}: line {number}")
        yield row


def refuse_misshapen(texts: Sequence[str], task: Task, place: str) -> None:
    """Refuses an example that has another number of texts than the task, or a text that is empty or not in UTF-8."""
    for text in texts:
        with refusing(place, "it is no text in UTF-8", "write its characters whole"):
            text.encode()
    wanted = f"{task.title} takes {' and '.join(task.inputs)}"
    if not any(text.strip() for text in texts):
        raise Refusal(place, "it is empty", wanted)
    if len(texts) != len(task.inputs):
        problem = f"{len(texts)} text{'s' * (len(texts) != 1)} instead of {len(task.inputs)}"
        raise Refusal(place, problem, wanted + ", separated by a tab" * (len(task.inputs) > 1))
    if empty := [name for name, text in zip(task.inputs, texts, strict=True) if not text.strip()]:
        raise Refusal(place, f"{empty[0]} is empty", wanted)
