"""Shows in a notebook's cell what a terminal shows, and renews it there."""

import logging
import sys
import time
import warnings
from io import StringIO
from typing import Any, ClassVar

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

WIDTH = 110
PRE = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:Menlo,Consolas,monospace">{code}</pre>'
)


def html_of(content: RenderableType) -> str:
    """Returns a table or a text of rich as HTML without a style sheet."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_jupyter=False, emoji=False)
    console.print(content)
    return console.export_html(inline_styles=True, code_format=PRE)


class NamedLines:
    """Something that named lines show: as a table in a terminal or a notebook's cell, else as text."""

    _title: ClassVar[str]

    @property
    def lines(self) -> dict[str, str]:
        """Returns the lines by their names."""
        raise NotImplementedError

    def __rich__(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False, title=self._title, title_justify="left")
        for name, text in self.lines.items():
            table.add_row(Text(name, style="bold"), Text(text))
        return table

    def __repr__(self) -> str:
        return "\n".join(f"{name:<7} {text}" for name, text in self.lines.items())

    def _repr_html_(self) -> str:
        return html_of(self)


CHANGE_SECONDS = 0.5
"""The shortest time between two changes of a cell."""


def in_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


def silence_widgets() -> None:
    """Keeps tqdm and Ray from asking for ipywidgets in every notebook: nothing here is drawn by them."""
    warnings.filterwarnings("ignore", message="IProgress not found")
    logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)


class CellView:
    """The output of a cell that shows `content` anew after each change."""

    def __init__(self, content: RenderableType) -> None:
        self._content, self._shown = content, 0.0
        self._handle: Any = None

    def start(self) -> None:
        from IPython.display import HTML, display

        self._handle = display(HTML(html_of(self._content)), display_id=True)

    def refresh(self) -> None:
        if time.monotonic() - self._shown > CHANGE_SECONDS:
            self._show()

    def stop(self) -> None:
        self._show()

    def _show(self) -> None:
        from IPython.display import HTML

        self._shown = time.monotonic()
        if self._handle is not None:
            self._handle.update(HTML(html_of(self._content)))
