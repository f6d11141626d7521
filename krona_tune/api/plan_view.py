"""Shows a plan in a notebook or a terminal."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd
from rich.table import Table

from krona_tune.api.printing import plan_lines, written_domain
from krona_tune.search.terminal.cell_view import html_of
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.folder import StudyFolder

if TYPE_CHECKING:
    from krona_tune.search.planning.plan import Plan


@dataclass(frozen=True)
class PlanView:
    """Shows what a study will run. `plan` is the whole plan; `frame` has one row per searched knob."""

    plan: "Plan"
    folder: StudyFolder

    @property
    def lines(self) -> dict[str, str]:
        """Returns the plan in named lines, as the command line prints it."""
        lines = plan_lines(self.plan, "", self.folder, EarlierOrders.of(self.folder))
        return {name: " ".join(text.split()) for name, text in lines.items()}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Returns one row per searched knob: its label, its values or range, and their number if they are listed."""
        searched = self.plan.space.searched()
        rows = [
            {"knob": label, "domain": written_domain(domain), "values": len(getattr(domain, "values", ())) or None}
            for label, domain in searched.items()
        ]
        return pd.DataFrame(rows, columns=["knob", "domain", "values"])

    def __rich__(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False, title="Plan", title_justify="left")
        for name, text in self.lines.items():
            table.add_row(f"[bold]{name}[/bold]", text)
        return table

    def __repr__(self) -> str:
        return "\n".join(f"{name:<7} {text}" for name, text in self.lines.items())

    def _repr_html_(self) -> str:
        return html_of(self)
