"""Tests that words which name a file of examples and its columns describe a task."""

from pathlib import Path

import pytest

from krona_tune.api.asked_tasks import asked_tasks
from krona_tune.data.file_task import described_task, file_task
from krona_tune.refusal import Refusal


@pytest.mark.parametrize(
    ("words", "text", "label"),
    [
        ("reviews.csv:review:stars", ["review"], "stars"),
        ("reviews.CSV: a title + body :stars", ["a title", "body"], "stars"),
        ("x/reviews.parquet:review:stars", ["review"], "stars"),
        ("C:/x/reviews.jsonl:review:stars", ["review"], "stars"),
    ],
)
def test_a_file_and_its_columns_are_a_task(words: str, text: list[str], label: str) -> None:
    name, described = file_task(words) or ("", {})
    assert name == "reviews"
    assert described == {"data": words.rsplit(":", 2)[0], "text": text, "label": label}


def test_blanks_that_a_files_own_names_have_stay(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("review ,a title, stars\n", encoding="utf-8")
    _, described = file_task(f"{path}:review + a title: stars") or ("", {})
    assert (described["text"], described["label"]) == (["review ", "a title"], " stars")


@pytest.mark.parametrize("words", ["cola", "mine.yaml", "hub:name:configuration", "reviews.txt:review:stars", ""])
def test_other_words_are_no_file_of_examples(words: str) -> None:
    assert file_task(words) is None


def test_what_is_there_and_is_no_file_of_examples_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cola").mkdir()
    (tmp_path / "reviews.csv.gz").write_bytes(b"")
    with pytest.raises(Refusal, match=r"^--tasks: cola is a folder; describe its task in a file \.yaml"):
        file_task("cola:review:stars")
    with pytest.raises(Refusal, match=r"^--tasks: reviews\.csv\.gz: \.gz is not read; give one of \.csv, "):
        file_task("reviews.csv.gz:review:stars")
    assert file_task("cola") is None, "a task of GLUE is named"


@pytest.mark.parametrize("columns", ["", ":review", "::stars", ":review+:stars", ":review: ", ":a: b:c", ":a:b:c:d"])
def test_a_column_that_is_not_named_is_asked_for_with_those_that_are_there(columns: str, tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("review,stars\ngood,5\n")
    words = f"{tmp_path}/reviews.csv{columns}"
    with pytest.raises(Refusal) as refused:
        file_task(words)
    assert "its columns are review, stars" in str(refused.value)
    assert f"write {tmp_path}/reviews.csv:TEXT:LABEL" in str(refused.value)
    with pytest.raises(Refusal, match="does not say which columns"):
        file_task(f"no_{words.rpartition('/')[2]}")  # a file that is not there has none to name


def test_a_request_names_several_with_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = asked_tasks("a.csv:one+two:label,rte", {})
    assert isinstance(found, dict)
    assert list(found) == ["a", "rte"]
    assert found["a"]["data"] == str(tmp_path / "a.csv")
    assert found["a"]["text"] == ["one", "two"]
    with pytest.raises(Refusal, match="which is described before"):
        asked_tasks("a.csv:one:label,b/a.csv:one:label", {})


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("reviews.csv", "reviews"),
        ("1 of 2.csv", "own_1_of_2"),
        ("cola.tsv", "own_cola"),
        ("RTE.csv", "own_RTE"),
        ("default.csv", "own_default"),
        ("é.csv", "own"),
    ],
)
def test_a_task_is_named_after_its_file(file: str, name: str) -> None:
    assert described_task(Path(file), ["t"], "l")[0] == name
    assert len(described_task(Path("x" * 200), ["t"], "l")[0]) <= 40
