"""Makes the tables of the terminal, whose titles say where data are synthetic."""

from rich.table import Table

from krona_tune.study.manifest import TaskFacts


def titled_table(title: str, facts: dict[str, TaskFacts], caption: str = "") -> Table:
    return Table(
        title=title + synthetic_mark(facts),
        title_justify="left",
        caption=caption or None,
        caption_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )


def synthetic_mark(facts: dict[str, TaskFacts]) -> str:
    """Returns what a table of synthetic numbers adds to its title; nothing for real data."""
    return " (synthetic data)" if any(fact.synthetic for fact in facts.values()) else ""
