"""Tests that studies of every format are listed, shown, drawn, compared, exported, used for prediction and resumed."""

import json
from functools import partial
from typing import Any

import pytest

from krona_tune import cli, open_study
from krona_tune.record.parquet_reader import read_trials
from krona_tune.study.manifest import STUDY_FORMAT
from krona_tune.study.request.loader import load_spec
from tests.conftest import Run
from tests.faults.consistency import settled
from tests.old_studies.stored import FORMATS, put_back
from tests.whole_studies import Home, WarmProgram


@pytest.fixture(params=FORMATS, ids=[folder.name for folder in FORMATS])
def home(request: pytest.FixtureRequest) -> Any:
    """Copies the studies of one format and their backbone, with their paths changed to the present place."""
    with Home.near_the_root() as found:
        put_back(request.param, found.root)
        yield found


@pytest.fixture
def ask(home: Home, run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `krona-tune` where the studies are."""
    monkeypatch.chdir(home.root)
    return partial(run, program=cli.main)


def test_there_is_a_study_of_every_format() -> None:
    assert [folder.name for folder in FORMATS] == [f"format_{number + 1}" for number in range(STUDY_FORMAT)]


def test_every_row_is_read_as_it_was_written(home: Home) -> None:
    written = json.loads((home.root / "rows.json").read_text(encoding="utf-8"))
    assert {status for rows in written.values() for status, _ in rows.values()} >= {"completed", "interrupted"}
    for name, rows in written.items():
        read = {row.trial_id: [row.status, row.score] for row in read_trials(home.study(name).results)}
        assert read == rows


def test_they_are_listed_shown_and_watched(ask: Run) -> None:
    code, out, err = ask("list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1:] if line[0] != " "] == ["finished", "interrupted", "killed"]
    for name in ("finished", "interrupted", "killed"):
        code, out, err = ask("show", name)
        assert (code, err) == (0, "")
        assert "CoLA" in out
        assert ask("watch", name)[0] == 0


def test_their_pages_are_written_and_they_are_compared(home: Home, ask: Run) -> None:
    for name in ("finished", "interrupted", "killed"):
        assert ask("report", name)[0] == 0
        assert home.study(name).page.stat().st_size > 100_000
    code, out, err = ask("report", "finished", "interrupted")
    assert (code, err) == (0, "")
    assert "comparison" in out


def test_their_rows_and_charts_are_there_for_a_notebook(home: Home) -> None:
    study = open_study(home.study("finished").root)
    assert study.tasks == ("cola", "stsb")
    assert study.best("cola").score is not None
    assert len(study.trials) == len(read_trials(home.study("finished").results))
    assert study.charts("cola")


def test_only_those_that_were_cut_short_have_something_left(home: Home) -> None:
    states = {name: repr(open_study(home.study(name).root)) for name in ("finished", "interrupted", "killed")}
    assert {name: text.split(": ")[1].split(",")[0] for name, text in states.items()} == {
        "finished": "finished",
        "interrupted": "stopped",
        "killed": "stopped",
    }


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_their_adapters_are_exported(ask: Run, form: str) -> None:
    code, _, err = ask("export", "finished", "--task", "cola", "--to", f"as-{form}", "--format", form)
    assert (code, err) == (0, "")


def test_their_adapters_answer(ask: Run) -> None:
    code, out, err = ask("predict", "finished", "--task", "stsb", typed="one text\tanother text\n")
    assert (code, err) == (0, "")
    assert float(out)


def test_a_new_study_may_learn_from_them_and_they_may_go_on(home: Home, ask: Run) -> None:
    space = str(home.study("finished").spec)
    code, _, err = ask("run", "--space", space, "--warm-start", "finished", "--name", "new", "--dry-run")
    assert (code, err) == (0, "")
    for name in ("finished", "interrupted", "killed"):
        code, _, err = ask("resume", name, "--dry-run")
        assert (code, err) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["interrupted", "killed"])
def test_a_study_that_was_cut_short_goes_on_to_its_end(home: Home, warm: WarmProgram, name: str) -> None:
    trials = load_spec(home.study(name).spec).search.trials
    done = warm.run(home, "--resume", name)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = settled(home.study(name), ("cola",), trials)
    for trial_id, (status, score) in json.loads((home.root / "rows.json").read_text())[name].items():
        if status != "interrupted":
            assert (rows[trial_id].status, rows[trial_id].score) == (status, score)


@pytest.mark.slow
def test_a_finished_study_gets_more_trials_and_another_one_learns_from_it(home: Home, warm: WarmProgram) -> None:
    done = warm.run(home, "--resume", "finished", "--trials", "+1")
    assert done.returncode == 0, done.stdout + done.stderr
    before = json.loads((home.root / "rows.json").read_text())["finished"]
    after = {row.trial_id for row in read_trials(home.study("finished").results)}
    assert after >= {*before, "cola-003", "stsb-003"}
    words = ["--space", str(home.study("interrupted").spec), "--warm-start", str(home.study("finished").root)]
    done = warm.run(home, *words, "--trials", "1", "--name", "new")
    assert done.returncode == 0, done.stdout + done.stderr
    searched = [row for row in read_trials(home.study("finished").results) if row.kind == "search" and row.finished]
    best = max((row for row in searched if row.task == "cola"), key=lambda row: row.score or 0)
    [first] = [row for row in read_trials(home.study("new").results) if row.trial_id == "cola-000"]
    assert first.params["scale"] == best.params["scale"]
