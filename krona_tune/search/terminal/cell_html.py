"""Turns what a terminal shows into HTML for the cell of a notebook."""

from io import StringIO

from rich.console import Console, RenderableType

WIDTH = 110
PRE = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:Menlo,Consolas,monospace">{code}</pre>'
)


def html_of(content: RenderableType) -> str:
    """Returns a table or a text of rich as HTML without a style sheet."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_jupyter=False, emoji=False)
    console.print(content)
    return console.export_html(inline_styles=True, code_format=PRE)
