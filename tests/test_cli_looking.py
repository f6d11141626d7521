"""Looking at studies from another terminal: which there are, what one has found, how one goes on."""

from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from krona_tune.cli import app
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.refusal import Refusal
from krona_tune.search.looking import is_running
from krona_tune.study.folder import StudyFolder
from krona_tune.study.loader import build_spec, dump_spec
from krona_tune.study.result import Status
from tests.record.events import manifest
from tests.study.final_rows import row


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    """Two ended trials and one that runs, on RTE."""
    folder = StudyFolder(tmp_path / "studies" / "mine")
    folder.root.mkdir(parents=True)
    folder.spec.write_text(dump_spec(build_spec({"model": "m", "name": "mine", "tasks": ["rte"]}, "x.yaml")))
    manifest("rte").write(folder.manifest)
    sink = ParquetSink(folder.results)
    for number, (score, status) in enumerate([(0.61, Status.COMPLETED), (0.57, Status.STOPPED_EARLY)]):
        params = {"method": "krona", "a_out": 4, "a_in": 6, "scale": 2.0, "roles": "query", "layers": "all"}
        ended = row(f"00{number}", "search", score, number=number, status=status, ended_at=9.0, params=params)
        sink.trial_started(ended)
        sink.trial_ended(ended)
    sink.trial_started(row("002", "search", None, number=2, status=Status.INTERRUPTED, ended_at=None))
    sink.study_ended([])
    return folder


def said(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_the_list_names_each_study_with_its_state(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    text = said("list", "--storage", str(study.root.parent)) + capsys.readouterr().out
    assert "mine" in text
    assert "rte" in text
    with FileLock(study.root / ".lock"):
        assert is_running(study)
    assert not is_running(study)


def test_no_study_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no study is here"):
        said("list", "--storage", str(tmp_path))


def test_a_study_is_shown_as_far_as_it_came(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    text = said("show", str(study.root)) + capsys.readouterr().out
    assert "1 completed, 1 stopped early, 1 interrupted" in text
    assert "0.610" in text


def test_watching_ends_with_the_study(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    text = said("watch", str(study.root)) + capsys.readouterr().out
    assert "2 of 3 trials" in text
