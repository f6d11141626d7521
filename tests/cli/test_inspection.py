"""Tests inspecting studies from another terminal: the list, the results of one, and its progress."""

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from rich.console import Console
from typer.testing import CliRunner

from krona_tune import cli
from krona_tune.api.printing import print_paths
from krona_tune.api.study import open_study
from krona_tune.cli import app
from krona_tune.record.driver_state import write_driver_state
from krona_tune.record.ownership import is_running
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.remote_copy import Copy
from krona_tune.record.storage import Storage, refresh, storage_at
from krona_tune.refusal import Refusal
from krona_tune.search.terminal.inspect_studies import studies_in, watch
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.request.loader import build_spec, dump_spec
from krona_tune.study.result import Status
from krona_tune.study.study_state import DriverState
from tests.conftest import Run
from tests.record.events import manifest, report, started
from tests.report.compared import final_study
from tests.search.models import saved_bert
from tests.study.final_rows import row


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    """Writes two ended trials and one that runs, on RTE."""
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


def test_the_list_cuts_no_name_on_a_narrow_screen(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a-study-whose-name-takes-more-than-half-of-the-line"
    storage = study.root.parent
    study.root.rename(storage / name)
    Console(width=80).print(studies_in(storage_at(str(storage))))
    out = capsys.readouterr().out
    begun = read_manifest(storage / name / "manifest.json").created_at[:16].replace("T", " ")
    for line in (name, begun, "rte", "1 completed, 1 stopped early, 1 interrupted"):
        assert line in " ".join(out.split())  # whole words, none of them letter by letter
    assert "…" not in out


def test_no_study_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no study is here"):
        said("list", "--storage", str(tmp_path))


def test_a_study_is_shown_as_far_as_it_came(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    text = said("show", str(study.root)) + capsys.readouterr().out
    assert "1 completed, 1 stopped early, 1 interrupted" in text
    assert "0.610" in text


def test_a_study_that_was_stopped_says_so_with_what_is_left_and_how_it_goes_on(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said("show", str(study.root)) + capsys.readouterr().out
    assert re.search(
        r": stopped with \d+ trials to go, 1 completed, .*; krona-tune resume mine --storage .* goes on", text
    )
    assert "stopped with" in said("list", "--storage", str(study.root.parent)) + capsys.readouterr().out


@pytest.mark.parametrize(
    ("search", "seconds", "more"),
    [
        ({"time_budget": 20}, 20.0, " with a larger --time-budget"),
        ({"time_budget": 20}, 12.0, " with a larger budget"),
        ({}, 20.0, ""),
    ],
)
def test_a_study_that_ended_with_trials_to_go_says_how_many_and_what_trains_them(
    study: StudyFolder, capsys: pytest.CaptureFixture[str], search: dict[str, float], seconds: float, more: str
) -> None:
    request = {"model": "m", "name": "mine", "tasks": ["rte"], "search": search}
    study.spec.write_text(dump_spec(build_spec(request, "x.yaml")), encoding="utf-8")
    study.clock.write_text(f'{{"seconds": {seconds}}}', encoding="utf-8")
    told = DriverState(stage="end", trials=3, ended=3, slots=2, end="finished", fulfilled=3, at=1.0)
    write_driver_state(study, told)
    text = said("show", str(study.root)) + capsys.readouterr().out
    assert re.search(rf": stopped with \d+ trials to go, .*; krona-tune resume mine --storage .* goes on{more}\n", text)
    assert "stopped with" in said("list", "--storage", str(study.root.parent)) + capsys.readouterr().out


@pytest.mark.parametrize(("lost", "word"), [("manifest.json", "show"), ("study.yaml", "show")])
def test_a_study_without_one_of_its_files_says_which(study: StudyFolder, lost: str, word: str) -> None:
    (study.root / lost).unlink()
    with pytest.raises(Refusal, match=rf"{lost}.*(is missing|resume it)"):
        said(word, study.name, "--storage", str(study.root.parent))


def test_a_folder_is_named_as_it_is_even_if_a_word_stands_in_brackets(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = StudyFolder(study.root.rename(study.root.parent / "mine [old]"))
    assert f"{moved.page}\n" in said("report", str(moved.root)) + capsys.readouterr().out
    print_paths(moved, "1 min", None)
    assert f"Results in {moved.root}:" in capsys.readouterr().out


def test_a_trial_that_runs_is_shown_as_running(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(study.root / ".lock"):
        text = said("show", str(study.root)) + capsys.readouterr().out
    assert ": running 1 now, 1 completed, 1 stopped early\n" in text
    assert "interrupted" not in text


def test_what_a_trial_without_an_end_has_reported_is_shown_as_on_the_page(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = ParquetSink(study.results)
    sink.reported(replace(report(started(2, "rte"), 0, 0.95), trial_id="rte-002"))
    sink.study_ended([])
    text = said("show", str(study.root)) + capsys.readouterr().out
    assert "RTE   0.950" in text
    best = open_study(study.root).best("rte")
    assert best is not None
    assert (best.trial_id, best.score) == ("rte-002", 0.95)


def test_a_paused_study_says_so(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    write_driver_state(study, DriverState(stage="search", trials=9, ended=2, slots=2, paused=True, at=1.0))
    with FileLock(study.root / ".lock"):
        text = said("show", str(study.root)) + capsys.readouterr().out
    assert ": paused, 1 begun, 1 completed, 1 stopped early\n" in text
    assert ": paused" not in said("show", str(study.root)) + capsys.readouterr().out


def test_watching_ends_with_the_study(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """The study has ten trials and three learning rates of the head alone."""
    os.utime(study.manifest, (6.0, 6.0))
    text = said("watch", str(study.root)) + capsys.readouterr().out
    assert "2 of 13 trials, 3 s" in text
    assert "11  0.610" in text


def test_watching_says_since_when_the_study_runs(
    study: StudyFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(study.manifest, (time.time() - 200,) * 2)
    lock = FileLock(study.root / ".lock")
    lock.acquire()
    monkeypatch.setattr("krona_tune.search.terminal.inspect_studies.time.sleep", lambda seconds: lock.release())
    screen = StringIO()
    watch(study, Console(file=screen, width=120, force_terminal=True))
    assert "2 of 13 trials, 3 min 2" in screen.getvalue()
    assert re.search(r"rte-002 +0%", screen.getvalue())


def test_watching_says_the_time_left_that_the_driver_foretells_and_none_once_it_has_gone(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = FileLock(study.root / ".lock")
    lock.acquire()
    monkeypatch.setattr("krona_tune.search.terminal.inspect_studies.time.sleep", lambda seconds: lock.release())
    state = DriverState(stage="search", trials=13, ended=2, seconds_left=700.0, slots=2, at=1.0)
    write_driver_state(study, state)
    screen = StringIO()
    watch(study, Console(file=screen, width=120))
    during, after = screen.getvalue().split("Validation scores")[1:]
    assert "about 11 min 40 s left" in during
    assert "left" not in after


def test_where_nothing_can_be_redrawn_watching_prints_again_after_each_change(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen, waited = StringIO(), list[str]()

    def wait(seconds: float) -> None:
        waited.append(screen.getvalue())
        if len(waited) == 3:
            lock.release()

    lock = FileLock(study.root / ".lock")
    lock.acquire()
    monkeypatch.setattr("krona_tune.search.terminal.inspect_studies.time.sleep", wait)
    watch(study, Console(file=screen, width=120))
    first, second, third = waited
    assert "2 of 13 trials" in first
    assert first == second == third, "nothing has changed"
    assert len(screen.getvalue()) > len(third), "the end is a change"
    assert screen.getvalue().endswith("\n")


def test_watching_counts_the_trials_that_were_ordered_meanwhile(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = FileLock(study.root / ".lock")
    lock.acquire()

    def ordered(seconds: float) -> None:
        given = {"model": "m", "name": "mine", "tasks": ["rte"], "search": {"trials": 40}}
        study.spec.write_text(dump_spec(build_spec(given, "x.yaml")), encoding="utf-8")
        lock.release()

    monkeypatch.setattr("krona_tune.search.terminal.inspect_studies.time.sleep", ordered)
    screen = StringIO()
    watch(study, Console(file=screen, width=120, force_terminal=True))
    first, *_, last = re.findall(r"2 of (\d+) trials", screen.getvalue())
    assert int(last) == int(first) + 40 - 12


def lose(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_bytes(b"PAR1 {")


@pytest.mark.parametrize(
    ("name", "harm", "state"),
    [
        (".lock", Path.mkdir, "1 completed, 1 stopped early, 1 interrupted"),
        ("manifest.json", lose, "hurt: the study has not begun, or its manifest.json is missing"),
        ("manifest.json", damage, "manifest.json: is damaged (Invalid JSON"),
        ("study.yaml", lose, "study.yaml: is missing"),
        ("results/trials.parquet", damage, "trials.parquet: can't be read (ArrowInvalid"),
        ("results/parts/trials-000000009-abcdef.parquet", damage, "1 interrupted, 1 of its records can't be read"),
    ],
)
def test_a_damaged_study_is_a_row_that_says_so_and_hides_no_other(
    study: StudyFolder, capsys: pytest.CaptureFixture[str], name: str, harm: Callable[[Path], None], state: str
) -> None:
    hurt = study.root.parent / "hurt"
    shutil.copytree(study.root, hurt)
    harm(hurt / name)
    before = {path: path.stat().st_mtime_ns for path in hurt.rglob("*") if path.name != ".lock"}
    screen = Console(width=300)
    screen.print(studies_in(Storage(folder=study.root.parent)))
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert state in lines["hurt"]
    assert "1 completed, 1 stopped early, 1 interrupted" in lines["mine"]
    assert {path: path.stat().st_mtime_ns for path in hurt.rglob("*") if path.name != ".lock"} == before


@pytest.mark.parametrize("verb", ["show", "watch"])
def test_looking_at_records_that_can_not_be_read_is_refused(study: StudyFolder, verb: str) -> None:
    for _ in range(2):
        damage(study.results / "trials.parquet")
        with pytest.raises(Refusal, match=r"trials.parquet: can't be read \(ArrowInvalid.*; resume the study"):
            said(verb, str(study.root))


def test_the_list_brings_only_what_it_shows(
    study: StudyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("report.html", "study.log", "adapters/rte/adapter.safetensors", "results/reports.parquet"):
        (study.root / name).parent.mkdir(parents=True, exist_ok=True)
        (study.root / name).write_bytes(b"x" * 1000)
    storage = Storage(folder=tmp_path / "there", uri=f"file://{tmp_path}/elsewhere")
    pushed = StudyFolder(study.root, storage.study("mine").remote)
    Copy(pushed).make_origin()
    Copy(pushed).push()
    Console(width=200).print(studies_in(storage))
    assert "1 completed, 1 stopped early, 1 interrupted" in capsys.readouterr().out
    there = storage.study("mine")
    files = {path.relative_to(there.root).as_posix() for path in there.root.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith(".")} == {
        "manifest.json",
        "study.yaml",
        "results/trials.parquet",
    }
    refresh(there)
    assert (there.root / "adapters/rte/adapter.safetensors").read_bytes() == b"x" * 1000


def test_a_space_that_is_made_for_a_request_is_printed_and_runs_as_a_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_bert(tmp_path / "bert")
    monkeypatch.chdir(tmp_path)
    words = ["--tasks", "cola", "--model", "bert", "--trials", "3"]
    code, out, _ = run("space", "auto", *words, program=cli.main)
    assert code == 0
    assert "# examples.max_length: 95 % of " in out
    elsewhere = tmp_path / "elsewhere" / "mine.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(out, encoding="utf-8")
    assert f"model: {tmp_path / 'bert'}" in out
    code, out, err = run("--dry-run", "--space", str(elsewhere))
    assert (code, err) == (0, "")
    assert "3 a task" in out
    assert "reasons" not in out  # an edited space would make them wrong
    code, _, err = run("space", "mini", "--trials", "3", program=cli.main)
    assert (code, err) == (2, "--trials: the space mini is printed as it is; leave it out, or write auto\n")


def test_a_printed_space_says_of_own_tasks_only_what_was_asked(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_bert(tmp_path / "bert")
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"a text {number},{number % 2}\n" for number in range(60))
    Path("own.csv").write_text("text,label\n" + rows, encoding="utf-8")
    words = ["space", "auto", "--model", "bert", "--trials", "3", "--tasks"]
    _, out, _ = run(*words, "own.csv:text:label", program=cli.main)
    space = yaml.safe_load(out)
    assert space["tasks"] == {"own": {"data": str(tmp_path / "own.csv"), "text": ["text"], "label": "label"}}
    assert "data" not in space
    _, out, _ = run(*words, "own.csv:text:label,cola", program=cli.main)
    assert (yaml.safe_load(out)["data"], yaml.safe_load(out)["tasks"]["cola"]) == ("mini", "glue")
    _, out, _ = run(*words, "own.csv:text:label", "--set", "tasks.cola=null", program=cli.main)
    assert yaml.safe_load(out)["data"] == "mini"


def test_a_space_is_made_with_what_a_study_of_the_storage_teaches(
    run: Run, tmp_path: Path, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["space", "auto", "--tasks", "cola", "--warm-start"]
    code, _, err = run(*words, "nobody", "--storage", str(study.root.parent), program=cli.main)
    assert (code, err.partition(";")[0]) == (2, "--warm-start: unknown study 'nobody'")
    code, _, err = run(*words, study.name, "--storage", str(study.root.parent), program=cli.main)
    assert "unknown study" not in err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path(study.name).touch()
    code, _, err = run(*words, study.name, "--storage", str(study.root.parent), program=cli.main)
    assert "no file of learning curves" not in err, "a file of its name hides no study"
    (tmp_path / "in.csv").touch()
    code, _, err = run(*words, str(tmp_path / "in.csv"), program=cli.main)
    assert (code, "in.csv is no file of learning curves, whose name ends in .parquet; name a study" in err) == (2, True)


def test_studies_are_compared_in_three_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    final_study(tmp_path / "one", (0.70, 0.72, 0.71))
    final_study(tmp_path / "two", (0.80, 0.815, 0.812))
    named = ("compare", "one", "two", "--storage", str(tmp_path))
    table = " ".join((said(*named) + capsys.readouterr().out).split())
    assert "RTE: two is better than one by 0.099 on test (paired by seed and test example)." in table
    assert said(*named, "--format", "latex").startswith("% needs \\usepackage{booktabs}")
    assert said(*named, "--format", "csv").startswith("task,study,winner,")
    with pytest.raises(Refusal, match="--format: unknown choice 'word'; known: csv, latex, table"):
        said(*named, "--format", "word")
