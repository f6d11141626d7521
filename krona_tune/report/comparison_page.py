"""Writes a page that compares several studies: what each found on each task, and how their requests differ."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle
from pathlib import Path
from textwrap import wrap

from markupsafe import Markup

from krona_tune.report.chart import COLOURS, SCORE, Chart, empty_figure, log_axis
from krona_tune.report.comparison import COMPARED_NOTE, ComparedTask, Comparison, read_comparison
from krona_tune.report.html import framed, rendered, write_page
from krona_tune.report.score_charts import PARAMETERS, front_line, task_front
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_many
from krona_tune.study.standings import Front, average_front

LEGEND_WIDTH = 32
"""The most characters of a line of a legend: a telephone shows no more."""


def write_comparison(folders: Sequence[StudyFolder], to: Path) -> Path:
    """Writes the page about two or more studies to the file `to`. Raises what `read_comparison` raises."""
    comparison = read_comparison(folders)
    return write_page(to, framed(comparison_title(comparison), render_comparison(comparison)))


def comparison_title(comparison: Comparison) -> str:
    return f"{' and '.join(study.name for study in comparison.studies)}: Kronecker adapters"


def render_comparison(comparison: Comparison, *, served: bool = False) -> Markup:
    """Returns the page's body. Everything from records or files is escaped; `served`: with a link to all studies."""
    common, searched = comparison.common, comparison.common_on("validation")
    return rendered(
        "comparison.html.j2",
        {
            "studies": comparison.studies,
            "parts": [(each, _draw_task(each)) for each in comparison.tasks],
            "common": common,
            "searched": searched,
            "apart": [each.title for each in comparison.known if each.task not in common],
            "titles": {each.task: each.title for each in comparison.tasks},
            "front": _draw_average(comparison, searched),
            "synthetic": comparison.synthetic,
            "differences": comparison.differences,
            "doubts": comparison.doubts,
            "note": COMPARED_NOTE,
            "version": comparison.studies[0].results.manifest.versions.get("krona_tune"),
            "year": comparison.studies[0].results.manifest.created_at[:4],
            "served": served,
        },
    )


def _draw_task(each: ComparedTask) -> Chart | None:
    fronts = {entry.study.name: task_front(entry.summary) for entry in each.entries}
    title = f"{each.title}: score against trainable parameters"
    return _draw_fronts("front", title, "The Pareto front of each study's search.", fronts)


def _draw_average(comparison: Comparison, common: Sequence[str]) -> Chart | None:
    fronts = {
        study.name: average_front([task_front(study.tasks[task]) for task in common]) for study in comparison.studies
    }
    tasks = format_many(len(common), "task")
    caption = f"At each size the mean over {tasks} of the best score with at most that many parameters."
    several = common and len(comparison.tasks) > 1  # the chart of one task says the same
    return _draw_fronts("average", "The average against trainable parameters", caption, fronts) if several else None


def _draw_fronts(name: str, title: str, caption: str, fronts: Mapping[str, Front]) -> Chart | None:
    if not any(fronts.values()):
        return None
    figure = empty_figure(PARAMETERS, SCORE)
    for (study, front), colour in zip(fronts.items(), cycle(COLOURS), strict=False):
        lines = (escape(line, quote=False) for line in wrap(study, LEGEND_WIDTH))
        figure.add_trace(front_line("<br>".join(lines), front, colour))
    figure.update_xaxes(log_axis([size for front in fronts.values() for size, _ in front]))
    return Chart(name=name, title=title, caption=caption, figure=figure)
