"""Refuses words of a command that are empty or can't be names, before they are interpreted."""

from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand

from krona_tune.refused_calls import FREE, refuse_odd_text
from krona_tune.search.preflight.machine import refuse_gone_folder


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
                refuse_odd_text(text, place, is_name=name not in FREE)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        refuse_gone_folder()
        return super().invoke(ctx)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Sequence):
        yield from (each for each in value if isinstance(each, str))
