"""Tests the adapter commands: they print the code that loads what was written, and refuse what is wrong."""

import csv
import json
import sys
from functools import partial
from pathlib import Path
from shutil import copytree

import pytest

import krona_tune
from krona_tune import cli
from krona_tune.adapters.adapter_files import TENSORS
from tests.conftest import Run
from tests.train.exported_adapters import adapter_folder, backbone_folder, texts


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes two studies: one with adapters of two tasks, one with a single adapter that can't be merged."""
    root = tmp_path_factory.mktemp("adapters")
    backbone = backbone_folder("bert", root / "backbone")
    for study, task, method in (("first", "cola", "krona"), ("first", "stsb", "lora"), ("second", "cola", "krona_b")):
        adapter_folder(backbone, root / "studies" / study / "adapters" / task, task, method)
        (root / "studies" / study / "study.yaml").touch()
    (root / "studies" / "empty").mkdir()
    (root / "studies" / "empty" / "study.yaml").touch()
    return root / "studies"


@pytest.fixture
def ask(run: Run) -> Run:
    """Runs `krona-tune`."""
    return partial(run, program=cli.main)


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_an_export_tells_what_was_written_and_how_to_load_it(ask: Run, storage: Path, form: str) -> None:
    code, out, err = ask("export", "first", "--storage", storage, "--task", "cola", "--to", "out", "--format", form)
    assert (code, err) == (0, "")
    assert f"Written to {Path.cwd() / 'out'}, " in out
    assert "Largest difference of a logit: " in out
    lines = "\n".join(line.strip() for line in out.splitlines()[2:])
    names: dict[str, object] = {}
    exec(lines, names)
    assert type(names["model"]).__name__ == "BertForSequenceClassification"


def test_an_export_without_a_form_has_that_of_what_the_study_is_deployed_as(ask: Run, storage: Path) -> None:
    copytree(storage / "first" / "adapters" / "cola", "deployed/adapters/cola")
    Path("deployed", "study.yaml").write_text("model: m\ndeploy: [krona, merged]\n", encoding="utf-8")
    code, out, err = ask("export", "./deployed", "--to", "out")
    assert (code, err) == (0, "")
    assert "an adapter of peft with krona_tune's method" in out


def test_a_study_is_named_by_its_folder_as_well_and_so_is_an_adapter(ask: Run, storage: Path) -> None:
    assert ask("export", storage / "second", "--format", "adapter", "--to", "one")[0] == 0
    assert ask("export", storage / "first" / "adapters" / "stsb", "--format", "adapter", "--to", "two")[0] == 0
    assert Path("one", TENSORS).read_bytes() == (storage / "second" / "adapters" / "cola" / TENSORS).read_bytes()


@pytest.mark.parametrize("command", [("predict",), ("export", "--to", "out")], ids=["predict", "export"])
def test_an_adapter_of_another_task_than_was_asked_for_is_refused(
    ask: Run, storage: Path, command: tuple[str, ...]
) -> None:
    name, *more = command
    code, _, err = ask(name, storage / "first" / "adapters" / "cola", *more, "--task", "sst2", typed="fine\n")
    assert code == 2
    assert "--task: " in err
    assert "cola is an adapter of cola, not of sst2; leave it out" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["first"], "--task: first has adapters of cola, stsb; choose one with --task"),
        (["first", "--task", "stbs"], "--task: unknown adapter 'stbs', did you mean 'stsb'?"),
        (["first", "--task", "../cola"], "--task: unknown adapter '../cola', did you mean 'cola'?"),
        (["frist"], "unknown study 'frist', did you mean 'first'?"),
        (["empty"], "holds no adapter; resume the study to its end"),
        (["./nowhere"], "nowhere: holds no adapter.json; give a folder such as studies/NAME/adapters/TASK"),
        (["second"], "--format: merged: krona_b can't be added to the weights of the model; use --format adapter"),
        (["second", "--format", "onxx"], "Invalid value for '--format'"),
        (["first", "--task", "cola", "--model", "./nowhere"], "--model: no folder './nowhere'"),
    ],
)
def test_an_export_that_can_not_be_is_refused_and_nothing_left(
    ask: Run, storage: Path, words: list[str], message: str
) -> None:
    code, out, err = ask("export", *words, "--storage", storage, "--to", "out")
    assert (code, out) == (2, "")
    assert message in err
    assert not list(Path.cwd().iterdir())


def test_an_export_to_the_home_folder_of_nobody_makes_no_folder(ask: Run, storage: Path) -> None:
    code, _, err = ask("export", "second", "--storage", storage, "--format", "adapter", "--to", "~nobody-here/out")
    assert (code, err) == (2, "--to: there is no home folder '~nobody-here'; give the folder's whole path\n")
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("to", ["", " "])
def test_an_export_to_nowhere_is_refused(ask: Run, storage: Path, to: str) -> None:
    """As from a shell variable that is not set."""
    code, out, err = ask("export", "second", "--storage", storage, "--format", "adapter", "--to", to)
    assert (code, out, err) == (2, "", "--to: its value is empty; give one, or leave it out\n")


def test_the_folder_that_one_stands_in_is_filled_and_stays(ask: Run, storage: Path) -> None:
    here, words = Path.cwd().stat().st_ino, ("--storage", storage, "--to", ".")
    assert ask("export", "second", *words, "--format", "merged")[0] == 2
    assert Path.cwd().stat().st_ino == here
    assert not list(Path.cwd().iterdir())
    assert ask("export", "second", *words, "--format", "adapter")[0] == 0
    assert Path.cwd().stat().st_ino == here
    assert {path.name for path in Path.cwd().iterdir()} == {"adapter.json", "adapter.safetensors", "README.md"}


def test_lines_are_answered_one_by_one(ask: Run, storage: Path) -> None:
    rows = [row[0] for row in texts("cola", rows=7)]
    code, out, err = ask("predict", "first", "--task", "cola", "--storage", storage, typed="\n".join(rows) + "\n")
    assert (code, err) == (0, "")
    assert out.splitlines() == krona_tune.predict(storage / "first" / "adapters" / "cola", rows)
    Path("rows.txt").write_bytes("\ufeff".encode() + "\r\n".join(rows).encode())
    words = ("predict", "first", "--task", "cola", "--storage", storage, "--input", "rows.txt", "--scores")
    scored = ask(*words)[1].splitlines()
    assert [line.split("\t")[0] for line in scored] == out.splitlines()
    assert all(sum(map(float, line.split("\t")[1:])) == pytest.approx(1, abs=2e-4) for line in scored)
    assert {len(line.split("\t")) for line in scored} == {3}


def test_the_rows_of_a_table_are_answered_in_a_new_file_with_their_other_columns(ask: Run, storage: Path) -> None:
    pairs = texts("stsb", rows=9)
    lines = [json.dumps({"id": number, "one": one, "two": two}) for number, (one, two) in enumerate(pairs)]
    Path("pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    adapter = storage / "first" / "adapters" / "stsb"
    words = ("predict", adapter, "--input", "pairs.jsonl", "--columns", "one,two", "--output", "out.csv")
    assert ask(*words) == (0, "", "")
    with Path("out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == list(range(9))
    expected = [float(text) for text in krona_tune.predict(adapter, pairs)]
    assert [float(row["prediction"]) for row in rows] == pytest.approx(expected, abs=1e-4)
    assert ask(*words) == (2, "", "--output: out.csv is there already; name a file that is not\n")


def test_a_table_is_printed_as_what_it_is_with_each_labels_probability(ask: Run, storage: Path) -> None:
    Path("rows.csv").write_text("id,sentence\n7,a cat\n8,a dog\n", encoding="utf-8")
    words = ("predict", storage / "first" / "adapters" / "cola", "--input", "rows.csv", "--scores")
    code, out, err = ask(*words)
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["id"] for row in rows] == ["7", "8"]
    assert all(
        float(row["probability_acceptable"]) + float(row["probability_unacceptable"]) == pytest.approx(1)
        for row in rows
    )


def test_a_late_row_without_a_text_is_refused_before_a_file_is_made(ask: Run, storage: Path) -> None:
    Path("rows.csv").write_text("id,sentence\n" + "7,a cat\n" * 20 + "8,\n", encoding="utf-8")
    words = ("predict", storage / "first" / "adapters" / "cola", "--input", "rows.csv", "--output", "out.parquet")
    assert ask(*words) == (2, "", "rows.csv:22: it is empty; CoLA takes sentence\n")
    assert [path.name for path in Path.cwd().iterdir()] == ["rows.csv"]


def test_a_regression_is_answered_with_numbers_and_has_no_probabilities(ask: Run, storage: Path) -> None:
    typed = "".join("\t".join(row) + "\n" for row in texts("stsb", rows=5))
    code, out, err = ask("predict", storage / "first" / "adapters" / "stsb", typed=typed)
    assert (code, err) == (0, "")
    assert len([float(line) for line in out.splitlines()]) == 5
    code, _, err = ask("predict", storage / "first" / "adapters" / "stsb", "--scores", typed=typed)
    assert (code, err) == (2, "--scores: STS-B is answered with a number; leave --scores out\n")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("a\tb\nc\n", "standard input:2: 1 text instead of 2; STS-B takes sentence1 and sentence2, "),
        ("a\tb\n\nc\td\n", "standard input:2: it is empty"),
        ("", "standard input:1: it is empty"),
    ],
)
def test_a_line_that_is_no_example_is_refused(ask: Run, storage: Path, typed: str, message: str) -> None:
    code, out, err = ask("predict", storage / "first" / "adapters" / "stsb", typed=typed)
    assert (code, out) == (2, "")
    assert err.startswith(message)


def test_a_file_that_can_not_be_read_is_refused(ask: Run, storage: Path) -> None:
    adapter = storage / "first" / "adapters" / "cola"
    code, _, err = ask("predict", adapter, "--input", "nowhere.txt")
    assert (code, err) == (
        2,
        "--input: nowhere.txt can't be read (FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.txt'); "
        "name a text file\n",
    )
    code, _, err = ask("predict", adapter, "--input", ".")
    assert (code, err.partition(" (")[0]) == (2, "--input: . can't be read")
    Path("latin.txt").write_bytes(b"ab\xe9")
    code, _, err = ask("predict", adapter, "--input", "latin.txt")
    assert (code, err) == (2, "latin.txt:1: not UTF-8 text (byte 3 of the file); save the file as UTF-8\n")
    Path("zero").symlink_to("/dev/zero")
    code, _, err = ask("predict", adapter, "--input", "zero")
    assert (code, err) == (2, "zero:1: the line is longer than 1,048,576 bytes; split it\n")


def test_a_closed_standard_input_is_refused(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["krona-tune", "predict", str(storage / "first" / "adapters" / "cola")])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert capsys.readouterr().err == "--input: standard input is closed; name a text file\n"


def test_a_late_line_of_a_file_that_is_no_example_is_refused_before_any_answer(
    ask: Run, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("krona_tune.train.predict.ROWS_AT_ONCE", 2)
    Path("rows.txt").write_text("a\n" * 9 + "\n", encoding="utf-8")
    words = ("predict", storage / "first" / "adapters" / "cola", "--input", "rows.txt")
    assert ask(*words) == (2, "", "rows.txt:10: it is empty; CoLA takes sentence\n")
