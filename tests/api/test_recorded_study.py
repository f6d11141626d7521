"""Tests the use of a study in a notebook."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest

import krona_tune
from krona_tune.record.driver_state import write_driver_state
from krona_tune.record.orders import waiting_orders
from krona_tune.record.ownership import lock_of
from krona_tune.record.parquet_reader import read_trials
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import FOR_PEOPLE
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Status
from krona_tune.study.study_state import DriverState
from tests.record.events import manifest
from tests.report.small_study import write_small_study


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    (tmp_path / "first-study").mkdir()
    return write_small_study(StudyFolder(tmp_path / "first-study"))


def test_a_study_opens_as_frames_figures_and_its_best(study: StudyFolder) -> None:
    opened = krona_tune.open_study(study.root)
    assert opened.manifest == manifest("cola", "rte", "mrpc")
    assert opened.tasks == ("cola", "rte", "mrpc")
    assert len(opened.trials) == 7
    assert {"trial_id", "status", "score", "scale", "factor_shape", "metric_matthews"} <= set(opened.trials.columns)
    assert set(opened.reports.columns) >= {"trial_id", "rung", "score", "train_seconds"}
    assert opened.best("cola").trial_id == "cola-0001"
    assert list(opened.charts("cola")) == ["parameters", "steps", "curves", "scale", "shapes"]


def test_what_is_not_there_is_refused(study: StudyFolder) -> None:
    opened = krona_tune.open_study(str(study.root))
    with pytest.raises(Refusal, match="unknown task 'colla', did you mean 'cola'"):
        opened.charts("colla")
    with pytest.raises(Refusal, match="no trial of rte has a score"):
        opened.best("rte")
    with pytest.raises(Refusal, match="no study is here"):
        krona_tune.open_study(study.root / "nowhere")


def test_the_folder_that_one_is_in_has_a_name(study: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.root)
    assert krona_tune.open_study(".").folder.name == study.name
    monkeypatch.chdir(study.results)
    assert krona_tune.open_study("..").folder.name == study.name


def test_a_bare_name_is_opened_in_the_storage_that_is_given(
    study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study.root.parent)
    assert krona_tune.open_study(study.name).folder.root.absolute() == study.root
    with pytest.raises(Refusal, match=f"no study '{study.name}'"):
        krona_tune.open_study(study.name, tmp_path / "other")
    assert krona_tune.open_study(f"./{study.name}/", study.root.parent).folder.root.absolute() == study.root


def test_a_study_that_was_moved_away_is_refused_and_not_empty(study: StudyFolder) -> None:
    opened = krona_tune.open_study(study.root)
    study.root.rename(study.root.with_name("moved"))
    for name in ("trials", "reports", "orders"):
        with pytest.raises(Refusal, match="first-study: the study that was here is gone; open it where it is now"):
            getattr(opened, name)
    assert len(krona_tune.open_study(study.root.with_name("moved")).trials) == 7


def test_a_study_shows_itself_where_it_is_gone_damaged_or_in_a_folder_with_brackets(study: StudyFolder) -> None:
    opened = krona_tune.open_study(study.root.rename(study.root.with_name("[a]")))
    assert ("[a]: " in repr(opened), "[a]: " in opened._repr_html_()) == (True, True)
    opened.folder.spec.write_text("model: tiny\ntasks: [cola]\nname: first-study\n", encoding="utf-8")
    (opened.folder.results / "trials.parquet").write_bytes(b"of another program")
    assert "trials.parquet: " in repr(opened)
    assert "trials.parquet: " in opened._repr_html_()
    opened.folder.root.rename(study.root)
    assert repr(opened).endswith("[a]: the study that was here is gone>")


def test_a_study_with_a_damaged_file_of_records_is_not_taken_for_finished(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver is started, because only that can recover the records."""
    opened = krona_tune.open_study(study.root)
    study.spec.write_text("model: tiny\ntasks: [cola]\nname: first-study\n", encoding="utf-8")
    (study.results / "trials.parquet").write_bytes(b"of another program")
    ran: list[str] = []

    def run_here(spec: StudySpec, place: str, reason: str, folder: StudyFolder, *_: object, **__: object) -> None:
        ran.append(folder.name)

    monkeypatch.setattr("krona_tune.api.study.run_and_report", run_here)
    opened.run()
    assert ran == ["first-study"]


def end_all(study: StudyFolder, asked: int) -> None:
    """Ends each trial that the study has begun, and lets its request ask for so many trials and nothing else."""
    none = f"{{trials: {asked}, baseline_learning_rates: []}}, finalists: {{top: 0}}"
    study.spec.write_text(f"{{model: tiny, tasks: [cola], name: first-study, search: {none}}}", encoding="utf-8")
    for row in read_trials(study.results):
        if not row.ended:
            ParquetSink(study.results).trial_ended(replace(row, status=Status.FAILED))


def test_a_finished_study_runs_again_if_more_was_ordered_of_it(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = krona_tune.open_study(study.root)
    end_all(study, asked=2)
    ran: list[str] = []
    monkeypatch.setattr("krona_tune.api.study.run_and_report", lambda spec, *_, **__: ran.append(spec.name))
    opened.run()
    assert (ran, "is finished" in capsys.readouterr().out) == ([], True)
    opened.order("trials", value="+4")
    opened.run()
    assert ran == ["first-study"]


def test_a_paused_study_says_so_in_a_session_too(study: StudyFolder) -> None:
    opened = krona_tune.open_study(study.root)
    study.spec.write_text("{model: tiny, tasks: [cola], name: first-study}", encoding="utf-8")
    with lock_of(study):
        write_driver_state(study, DriverState(stage="search", trials=9, ended=4, slots=2, paused=True, at=1.0))
        assert repr(opened).endswith(": paused, 4 trials have ended>")
    assert ": stopped, " in repr(opened)


def test_a_study_that_its_driver_left_with_nothing_to_do_is_not_run_again(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the nine trials that are asked for, no point was left for most of them."""
    opened = krona_tune.open_study(study.root)
    end_all(study, asked=9)
    write_driver_state(study, DriverState(stage="end", trials=7, ended=7, slots=2, end="finished", fulfilled=9, at=1.0))
    ran: list[int] = []
    monkeypatch.setattr("krona_tune.api.study.run_and_report", lambda spec, *_, **__: ran.append(spec.search.trials))
    opened.run()
    assert (ran, "is finished" in capsys.readouterr().out) == ([], True)
    opened.run(trials="+1")
    assert ran == [10]


def test_an_opened_study_takes_orders(study: StudyFolder) -> None:
    opened = krona_tune.open_study(study.root)
    assert opened.orders.empty
    given = opened.order("clone_trial", "cola-0005", settings={"learning_rate": 0.001}, from_last_rung=True)
    assert waiting_orders(study) == [given]
    assert given.settings == ("learning_rate=0.001",)
    ParquetSink(study.results).ordered(given.model_copy(update={"state": "refused", "outcome": "no"}))
    assert list(opened.orders["state"]) == ["refused"]
    with pytest.raises(Refusal, match="stop_trial needs a trial"):
        opened.order("stop_trial")


def test_the_words_of_an_order_name_each_that_people_give() -> None:
    words = inspect.getdoc(krona_tune.Study.order) or ""
    listed = re.findall(r"\w+", words.partition("what: ")[2].partition("\n")[0])
    assert set(listed) - {"or"} == set(FOR_PEOPLE)
