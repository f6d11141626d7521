"""Reads the validation half of one task of a study again."""

from dataclasses import replace

from krona_tune.search.planning.plan import make_plan
from krona_tune.search.startup.task_data import prepare_data
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import load_spec
from krona_tune.train.backbone_source import download
from krona_tune.train.loop import TaskWork


def validation_data(folder: StudyFolder, task: str) -> TaskWork:
    """Returns a task's encoded data as its study had them. Raises a Refusal if they can't be read any more."""
    spec = load_spec(folder.spec)
    finals = spec.finalists.model_copy(update={"top": 0})  # leaves the test half alone
    plan = make_plan(spec.model_copy(update={"tasks": (task,), "finalists": finals}), str(folder.spec))
    source = download(plan.source)
    return prepare_data(replace(plan, source=source), source.location).works[task]
