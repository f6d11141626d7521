"""Tests the command that answers examples: lines and tables, what it refuses, and requests until Ctrl-C."""

import csv
import io
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest
import requests

import krona_tune
from krona_tune import cli
from tests.conftest import Run
from tests.services.processes import free_port
from tests.train.exported_adapters import texts
from tests.waiting import until


def test_lines_are_answered_one_by_one(ask: Run, storage: Path) -> None:
    rows = [row[0] for row in texts("cola", rows=7)]
    code, out, err = ask("predict", "first", "--task", "cola", "--storage", storage, typed="\n".join(rows) + "\n")
    assert (code, err) == (0, "")
    assert out.splitlines() == krona_tune.predict(storage / "first" / "adapters" / "cola", rows)
    Path("rows.txt").write_bytes("\ufeff".encode() + "\r\n".join(rows).encode())
    words = ("predict", "first", "--task", "cola", "--storage", storage, "--input", "rows.txt", "--scores")
    code, out_with_scores, err = ask(*words)
    assert (code, err) == (0, "columns: prediction, probability_unacceptable, probability_acceptable\n")
    scored = out_with_scores.splitlines()
    assert [line.split("\t")[0] for line in scored] == out.splitlines()
    assert all(sum(map(float, line.split("\t")[1:])) == pytest.approx(1, abs=2e-4) for line in scored)
    assert {len(line.split("\t")) for line in scored} == {3}


def test_the_rows_of_a_table_are_answered_in_a_new_file_with_their_other_columns(ask: Run, storage: Path) -> None:
    pairs = texts("stsb", rows=9)
    lines = [json.dumps({"id": number, "one": one, "two": two}) for number, (one, two) in enumerate(pairs)]
    Path("pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    adapter = storage / "first" / "adapters" / "stsb"
    words = ("predict", adapter, "--input", "pairs.jsonl", "--columns", "one,two", "--output", "out.csv")
    assert ask(*words) == (0, "out.csv: 9 answers\n", "")
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


def test_a_late_row_that_has_an_answer_of_its_own_is_refused_before_any_is_written(ask: Run, storage: Path) -> None:
    rows = [{"sentence": "a cat"}, {"sentence": "a dog", "prediction": "mine"}]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = ("predict", storage / "first" / "adapters" / "cola", "--input", "rows.jsonl")
    refused = "--input: it has a column 'prediction', which the answers get; rename that column\n"
    assert ask(*words) == (2, "", refused)


def test_a_late_key_that_a_header_lacks_is_refused_before_a_model_is_loaded(
    ask: Run, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("krona_tune.train.predict.ready", None)
    rows = [{"sentence": "a cat"}, {"sentence": "a dog", "note": "mine"}]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = ("predict", storage / "first" / "adapters" / "cola", "--input", "rows.jsonl", "--output", "out.csv")
    code, _, err = ask(*words)
    assert (code, "--output: a row has 'note', which the first row lacks" in err) == (2, True), err


def test_a_late_row_without_a_text_is_refused_before_a_file_is_made(ask: Run, storage: Path) -> None:
    Path("rows.csv").write_text("id,sentence\n" + "7,a cat\n" * 20 + "8,\n", encoding="utf-8")
    words = ("predict", storage / "first" / "adapters" / "cola", "--input", "rows.csv", "--output", "out.parquet")
    assert ask(*words) == (2, "", "rows.csv:22: sentence is empty; write a text there, or take the row out\n")
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


def test_a_file_that_can_not_be_read_is_refused(ask: Run, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = storage / "first" / "adapters" / "cola"
    code, _, err = ask("predict", adapter, "--input", "nowhere.txt")
    assert (code, err) == (
        2,
        "--input: there is no file nowhere.txt; name a file with examples\n",
    )
    monkeypatch.setenv("HOME", str(Path("at_home").absolute()))
    said = ask("predict", adapter, "--input=~/rows.txt")[2]
    assert said.startswith(f"--input: there is no file {Path.home()}/rows.txt")
    Path("empty.txt").touch()
    code, _, err = ask("predict", adapter, "--input", "empty.txt")
    assert (code, err) == (2, "empty.txt: the file is empty; give it rows, or name another\n")
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


def test_a_person_at_a_terminal_is_told_what_to_write(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "argv", ["krona-tune", "predict", str(storage / "first" / "adapters" / "stsb")])
    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(b"a cat\ta dog\n")))
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert err == "Write one example a line, a tab between its texts; Ctrl-D ends them, and they are answered.\n"


def test_a_late_line_of_a_file_that_is_no_example_is_refused_before_any_answer(
    ask: Run, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("krona_tune.train.predict.ROWS_AT_ONCE", 2)
    Path("rows.txt").write_text("a\n" * 9 + "\n", encoding="utf-8")
    words = ("predict", storage / "first" / "adapters" / "cola", "--input", "rows.txt")
    assert ask(*words) == (2, "", "rows.txt:10: it is empty; CoLA takes sentence\n")


def test_requests_are_answered_until_ctrl_c(ask: Run, storage: Path) -> None:
    adapter, port, found = storage / "first" / "adapters" / "cola", free_port(), list[requests.Response]()
    rows = [row[0] for row in texts("cola", rows=3)]

    def client() -> None:
        address = f"http://127.0.0.1:{port}"
        try:
            until(lambda: answers(address))
            sent = {"examples": [{"id": number, "sentence": row} for number, row in enumerate(rows)]}
            found.append(requests.post(f"{address}/predict", json=sent, timeout=60))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=client)
    thread.start()
    code, out, err = ask("predict", adapter, "--serve", "--port", port)
    thread.join()
    assert (code, err) == (0, "")
    assert out == f"Answering CoLA (sentence) at http://127.0.0.1:{port}/predict until Ctrl-C\n"
    assert [each["prediction"] for each in found[0].json()["answers"]] == krona_tune.predict(adapter, rows)
    assert not list(Path.cwd().iterdir())
    socket.create_server(("127.0.0.1", port)).close()


def answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/healthz", timeout=60).status_code == 200
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--serve", "--input", "rows.txt"), "--input: --serve reads and answers by HTTP; leave it out"),
        (("--serve", "--scores"), "--scores: --serve reads and answers by HTTP; leave it out"),
        (("--port", 0), "--port: it is about --serve; add --serve, or leave it out"),
        (("--serve", "--host", "0.0.0.0"), "--host: 0.0.0.0 can be reached by other machines, and there is no token"),
        (("--serve", "--token-file", "none"), "none: is no file; name a text file that holds the token alone"),
        (("--serve", "--port", 0, "--model", "./nowhere"), "--model: no folder './nowhere'"),
    ],
)
def test_an_odd_way_to_serve_is_refused(
    ask: Run, storage: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], said: str
) -> None:
    monkeypatch.delenv("KRONA_TUNE_TOKEN", raising=False)
    code, out, err = ask("predict", storage / "first" / "adapters" / "cola", *words, typed="a cat\n")
    assert (code, out) == (2, "")
    assert said in err


def test_a_port_that_another_has_is_refused_before_a_model_is_loaded(ask: Run, storage: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = ask("predict", storage / "second", "--model", "./nowhere", "--serve", "--port", port)
    assert (code, out) == (2, "")
    assert f"--port: 127.0.0.1 port {port} can't be used (Address already in use)" in err
