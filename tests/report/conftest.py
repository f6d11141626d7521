"""Gives tests a small study with known numbers, and its charts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from krona_tune.report.chart import Chart
from krona_tune.report.study_results import read_results
from krona_tune.report.task_charts import draw_charts
from krona_tune.study.folder import StudyFolder
from tests.record.events import manifest
from tests.report.small_study import write_small_study


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    (tmp_path / "first-study").mkdir()
    return StudyFolder(tmp_path / "first-study")


@pytest.fixture
def study(folder: StudyFolder) -> StudyFolder:
    return write_small_study(folder)


Empty = Callable[..., StudyFolder]


@pytest.fixture
def empty(folder: StudyFolder) -> Empty:
    """Returns a function that writes a study with a manifest and no records."""

    def write(*tasks: str, synthetic: bool = False) -> StudyFolder:
        manifest(*tasks, synthetic=synthetic).write(folder.manifest)
        return folder

    return write


@pytest.fixture
def drawn(study: StudyFolder) -> dict[str, Chart]:
    results = read_results(study)
    recorded, [cola, *_] = results.recorded, results.tasks
    return {chart.name: chart for chart in draw_charts(cola, recorded.of("cola"), None)}
