"""Reads an earlier study, from which a new one can learn."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from krona_tune.backbones.geometry import Geometry
from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.refusal import Refusal
from krona_tune.search.planning.space import Space
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.network import network
from krona_tune.study.result import Report, TrialResult

FLAG = "--warm-start"


@dataclass(frozen=True, kw_only=True)
class EarlierStudy:
    """The searched trials of an earlier study with their reports, and the full budget of each task in examples.

    `geometry` is its backbone's: sites by stack, layer and role, with square maps. None if the study recorded none.
    """

    name: str
    rows: tuple[TrialResult, ...]
    reports: tuple[Report, ...]
    budgets: Mapping[str, int]
    geometry: Geometry | None

    def task(self, name: str) -> str:
        """Returns the name of a task of this study among the tasks of others."""
        return f"{self.name}/{name}"


def read_earlier(folder: Path, space: Space) -> EarlierStudy:
    """Reads an earlier study.

    Raises:
        Refusal: the folder holds no study, its records can't be read, or none of its trials has a method of the space.
    """
    study = StudyFolder(folder)
    if not study.results.is_dir():
        raise Refusal(FLAG, f"no study with results in {folder}", "name a study's folder")
    manifest = read_manifest(study.manifest)
    rows = tuple(row for row in read_trials(study.results) if row.kind == "search")
    fitting = tuple(row for row in rows if row.params["method"] in space.knobs)
    if not fitting:
        tried = ", ".join(sorted({str(row.params["method"]) for row in rows})) or "none"
        problem = f"{folder} has no trial of {' or '.join(space.methods)}; its methods: {tried}"
        raise Refusal(FLAG, problem, "leave it out, or name a study of the same methods")
    of_backbone = network(manifest.model)
    bare = replace(of_backbone.bare(), parameters=manifest.model.parameters) if of_backbone else None
    kept = {row.trial_id for row in fitting}
    return EarlierStudy(
        name=study.name,
        rows=fitting,
        reports=tuple(report for report in read_reports(study.results) if report.trial_id in kept),
        budgets={task: facts.rungs[-1] for task, facts in manifest.tasks.items()},
        geometry=bare,
    )
