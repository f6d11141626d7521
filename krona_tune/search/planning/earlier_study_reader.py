"""Reads an earlier study, from which a new one can learn."""

from dataclasses import replace
from pathlib import Path

from krona_tune.hub import home
from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.refusal import Refusal
from krona_tune.search.planning.earlier_study import EarlierStudy
from krona_tune.search.planning.space import Space
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.network import network
from krona_tune.study.request.study_spec import RECORDED_CURVES

FLAG = "--warm-start"


def read_earlier(named: str, space: Space) -> EarlierStudy:
    """Reads what a new study of this space can use of an earlier one.

    Args:
        named: the folder of a study, or the word for the recorded curves that come with the package.

    Raises:
        Refusal: the folder holds no study, its records can't be read, or none of its trials has a method of the space.
    """
    if named == RECORDED_CURVES:
        from krona_tune.search.planning.shipped_curves import shipped_curves  # pandas, which no other plan needs

        study = shipped_curves()
    else:
        study = _read(home(Path(named)))
    fitting = tuple(row for row in study.rows if row.params["method"] in space.knobs)
    if not fitting:
        tried = ", ".join(sorted({str(row.params["method"]) for row in study.rows})) or "none"
        problem = f"{named} has no trial of {' or '.join(space.methods)}; its methods: {tried}"
        raise Refusal(FLAG, problem, "leave it out, or name a study of the same methods")
    kept = {row.trial_id for row in fitting}
    return replace(study, rows=fitting, reports=tuple(each for each in study.reports if each.trial_id in kept))


def _read(folder: Path) -> EarlierStudy:
    study = StudyFolder(folder)
    if not study.results.is_dir():
        raise Refusal(FLAG, f"no study with results in {folder}", f"name a study's folder, or {RECORDED_CURVES}")
    manifest = read_manifest(study.manifest)
    of_backbone = network(manifest.model)
    return EarlierStudy(
        name=study.name,
        rows=tuple(row for row in read_trials(study.results) if row.kind == "search"),
        reports=tuple(read_reports(study.results)),
        budgets={task: facts.rungs[-1] for task, facts in manifest.tasks.items()},
        geometry=replace(of_backbone.bare(), parameters=manifest.model.parameters) if of_backbone else None,
    )
