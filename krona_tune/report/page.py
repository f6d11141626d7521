"""Writes report.html: one self-contained page about one study, from its records alone."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from krona_tune.refusal import Refusal
from krona_tune.report import wording
from krona_tune.report.analysis import STANDARD_ERRORS, TaskSummary, average, summaries
from krona_tune.report.charts import Chart, charts
from krona_tune.report.finals import final_average, methods_part
from krona_tune.report.frame import Records, factor_shape, records
from krona_tune.report.seeds import seeds_chart
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest, read_manifest
from krona_tune.study.result import TrialResult

TEMPLATES = Path(__file__).parent / "templates"
TOP = 10
"""How many trials of a task the ranking shows."""

SHAPE = "A"
"""The heading under which `a_out` and `a_in` stand together."""


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """Some trials' knobs: those that differ between them, and those that are the same in all of them."""

    differing: tuple[str, ...]
    fixed: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class TaskPart:
    """One task on the page, with the knobs of its ranked trials and of its finalists."""

    summary: TaskSummary
    knobs: Knobs
    final_knobs: Knobs
    charts: tuple[Chart, ...]
    seeds: Chart | None


def write_report(folder: StudyFolder) -> Path:
    """The page about what the study has recorded so far; it may still run.

    Raises:
        Refusal: there is no study in the folder.
    """
    text = render(_manifest(folder), records(folder), _text(folder.spec))
    temporary = folder.report.with_name(f".{folder.report.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, folder.report)
    return folder.report


def render(manifest: Manifest, recorded: Records, spec: str) -> str:
    """The page's HTML. Whatever comes from records or files is escaped."""
    tasks = summaries(recorded, manifest)
    parts = [_part(summary, recorded.of(summary.task)) for summary in tasks]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            manifest=manifest,
            spec=spec,
            parts=parts,
            average=average(tasks),
            final_average=final_average(tasks),
            methods=methods_part(recorded, tasks, manifest),
            trials=len(recorded.trials),
            troubled=[(each.summary, trial) for each in parts for trial in each.summary.troubled],
            plotly=Markup(get_plotlyjs()) if any(part.charts or part.seeds for part in parts) else None,
            top=TOP,
            standard_errors=STANDARD_ERRORS,
        )
    )


def knobs_of(trial: TrialResult) -> dict[str, str]:
    """The trial's knobs as the page writes them, with the two sizes of A in one place."""
    written = {name: wording.knob(value) for name, value in trial.params.items() if name not in {"a_out", "a_in"}}
    return written | ({SHAPE: shape.replace("x", "×")} if (shape := factor_shape(trial)) else {})


def _part(summary: TaskSummary, recorded: Records) -> TaskPart:
    return TaskPart(
        summary=summary,
        knobs=_knobs([each.trial for each in summary.ranked]),
        final_knobs=_knobs([each.rows[0] for each in summary.finals.finalists]),
        charts=charts(summary, recorded),
        seeds=seeds_chart(summary.finals),
    )


def _knobs(trials: Sequence[TrialResult]) -> Knobs:
    written = [knobs_of(trial) for trial in trials]
    names = list(dict.fromkeys(name for knobs in written for name in knobs))
    values = {name: {knobs.get(name, wording.NOTHING) for knobs in written} for name in names}
    order = sorted(names, key=lambda name: (name not in {"method", SHAPE}, name != "method"))
    return Knobs(
        differing=tuple(name for name in order if len(values[name]) > 1),
        fixed={name: written[0][name] for name in order if len(values[name]) == 1},
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("score", "gain", "count", "percent", "seconds", "moment", "knob", "words", "spread")
    environment.filters.update({name: getattr(wording, name) for name in names})
    environment.filters["knobs_of"] = knobs_of
    environment.filters["figure_json"] = _figure_json
    return environment


def _figure_json(figure: Any) -> Markup:
    """The figure for a script element: no `<` in it can end the element."""
    return Markup(figure.to_json(remove_uids=True).replace("<", "\\u003c"))


def _manifest(folder: StudyFolder) -> Manifest:
    try:
        return read_manifest(folder.manifest)
    except FileNotFoundError:
        raise Refusal(str(folder.root), "no study is here (no manifest.json)", "name the folder of a study") from None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
