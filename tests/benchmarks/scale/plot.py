"""Draws a scale run: the driver's memory and the scheduling thread's processor seconds over its reports."""

import csv
from pathlib import Path

from tests.benchmarks.svg_figure import new_figure, save_figure


def draw(table: Path, picture: Path) -> None:
    """Draws two panels from the CSV file that `tests.benchmarks.scale.run` writes."""
    with table.open(encoding="utf-8") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    figure, (memory, work) = new_figure(width=9, height=3.4, ncols=2)
    for run, label in ((1, "until the interruption"), (2, "after resuming")):
        own = [row for row in rows if row["run"] == run and row["reports"]]
        reports = [row["reports"] for row in own]
        memory.plot(reports, [row["resident_bytes"] / 2**20 for row in own], label=label)
        work.plot(reports, [row["loop_seconds"] for row in own], label=label)
    memory.set(xlabel="reports of this run", ylabel="MiB resident", ylim=0)
    work.set(xlabel="reports of this run", ylabel="processor seconds of the scheduling thread", ylim=0)
    memory.legend()
    save_figure(figure, picture)
