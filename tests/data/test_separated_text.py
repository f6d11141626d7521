"""Tests that lines and rows are those that a file has, and that what is none is refused with its line."""

import io
from pathlib import Path

import pytest

from krona_tune.data.separated_text import (
    LONGEST_LINE,
    example_lines,
    find_separation,
    lines_of,
    refuse_other_encoding,
)
from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal


def written(*lines: str) -> io.BytesIO:
    return io.BytesIO("".join(f"{line}\n" for line in lines).encode())


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("cola", "", "it is empty; CoLA takes sentence"),
        ("cola", "a\tb", "2 texts instead of 1; CoLA takes sentence"),
        ("mnli", "a", "1 text instead of 2; MNLI takes premise and hypothesis, separated by a tab"),
        ("mnli", "a\tb\tc", "3 texts instead of 2"),
        ("mnli", "a\t ", "hypothesis is empty"),
        ("mnli", "\t", "it is empty"),
    ],
)
def test_a_line_that_is_no_example_is_named(task: str, line: str, message: str) -> None:
    good = "\t".join("x" for _ in TASKS[task].inputs)
    with pytest.raises(Refusal) as refused:
        list(example_lines(written(good, line, good), "some.txt", TASKS[task]))
    assert str(refused.value).startswith(f"some.txt:2: {message}")
    assert list(example_lines(written(good, good), "some.txt", TASKS[task])) == [("x",) * len(TASKS[task].inputs)] * 2


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"\xef\xbb\xbfa\r\nb\xc3\xa9\r", ["a", "bé"]),
        (b"a\n\xef\xbb\xbfb", ["a", "\ufeffb"]),
        (b"a\x0bb\xe2\x80\xa8c\rd\n", ["a\vb\u2028c\rd"]),
        (b"x" * (1 << 20), ["x" * (1 << 20)]),
    ],
)
def test_lines_end_where_a_file_says(content: bytes, lines: list[str]) -> None:
    assert list(lines_of(io.BytesIO(content), "some.txt", LONGEST_LINE)) == list(enumerate(lines, 1))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\nb\xe9", "some.txt:2: not UTF-8 text (byte 4 of the file); save the file as UTF-8"),
        ("a\nb".encode("utf-16"), "some.txt:1: UTF-16 text, as some programs write Unicode; save the file as UTF-8"),
        (b"a\n" + b"x" * ((1 << 20) + 1), "some.txt:2: the line is longer than 1,048,576 bytes; split it"),
    ],
)
def test_what_is_no_line_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        list(lines_of(io.BytesIO(content), "some.txt", LONGEST_LINE))
    assert str(refused.value) == said


def test_an_input_without_any_line_is_one_empty_example() -> None:
    with pytest.raises(Refusal, match="standard input:1: it is empty; CoLA takes sentence"):
        list(example_lines(io.BytesIO(), "standard input", TASKS["cola"]))


@pytest.mark.parametrize("before", [0, 3, (1 << 20) - 1, 1 << 20])
def test_another_encoding_is_refused_with_the_line_and_the_byte_of_the_file(tmp_path: Path, before: int) -> None:
    path = tmp_path / "some.csv"
    path.write_bytes(b"a\n" + b"x" * before + b"\xe9\n")
    with pytest.raises(Refusal) as refused:
        refuse_other_encoding(path)
    said = f"{path}:2: not UTF-8 text (byte {before + 3} of the file); save the file as UTF-8"
    assert str(refused.value) == said


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_that_of_the_asked_columns(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "some.csv"
    text = separator.join(["a, b; c", "body", "queue"])
    path.write_text("\ufeff" + text.replace("a, b; c", '"a, b; c"') + "\n", encoding="utf-8")
    found = find_separation(path, ["body", "queue"])
    assert (found.separator, found.names) == (separator, ["a, b; c", "body", "queue"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("some.tsv", 'body\tqueue\none\tx\n"two\nlines"\ty\n', "some.tsv:3: this TSV has quotes, which are not read;"),
        ("some.tsv", 'body\tqueue\none\tx\n"a ""b"" c"\ty\n', "some.tsv:3: this TSV has quotes, which are not read;"),
        ("some.tsv", 'body\tqueue\n"one"\tx\n"a ""b"" c"\ty\n', "some.tsv:3: this TSV has quotes, which are not read;"),
        ("some.csv", "sep=;\nbody;queue\n", "some.csv:1: the line 'sep=;' names no column; take that line out"),
        ("some.csv", "sep=,\nbody,queue\n", "some.csv:1: the line 'sep=' names no column; take that line out"),
        ("some.csv", "queue, body\n", "some.csv: no column 'body'; found queue, ' body'; name one of them"),
    ],
)
def test_a_file_that_is_written_in_another_way_is_refused_with_what_to_do(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Refusal) as refused:
        find_separation(path, ["body"])
    assert said in str(refused.value)


@pytest.mark.parametrize("row", ['"a" b\tx', '"a ""b"" c"\tx\nsays "a" b\tx', '"\tx', '""\tx'])
def test_a_tsv_may_hold_quotes_that_are_the_text_s_own(tmp_path: Path, row: str) -> None:
    (tmp_path / "some.tsv").write_text(f"body\tqueue\n{row}\n", encoding="utf-8")
    assert find_separation(tmp_path / "some.tsv", ["body"]).names == ["body", "queue"]


def test_separators_at_the_end_are_those_of_every_row_or_of_a_text_without_quotes(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("label,text,note\npos,good,,\nneg,bad,,\n\n", encoding="utf-8")
    assert find_separation(path, ["text"]).names == ["label", "text", "note"]
    for rows in ("pos,good, really,\nneg,bad,\n", "neg,bad,\npos,good, really,\n"):
        path.write_text(f"label,text,note\n{rows}", encoding="utf-8")
        with pytest.raises(Refusal, match=r"some\.csv:[23]: 4 fields, the header has 3; put a text that holds"):
            find_separation(path, ["text"])


def test_a_row_that_is_wider_than_the_header_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text('body,queue\n"two\nlines",x\none, two,x\n', encoding="utf-8")
    with pytest.raises(Refusal, match=r"some\.csv:4: 3 fields, the header has 2; put a text that holds"):
        find_separation(path, ["body"])


@pytest.mark.parametrize("rows", ['"a,x\nb,y\n"c,x\nd,y\n', 'e,y\n"a ""b"",x\nb,y\n"c\n'])
def test_two_quotes_that_are_not_closed_lose_no_rows_between_them(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "films.csv"
    path.write_text(f"body,queue\n{rows}", encoding="utf-8")
    line = 2 if rows.startswith('"') else 3
    with pytest.raises(Refusal, match=rf"films.csv:{line}: a quote that opens here closes in the middle of line "):
        find_separation(path, ["body", "queue"])


def test_a_text_of_several_lines_may_have_quotes_and_blanks_after_its_own(tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text('body,queue\n"a\n""b"", c" ,x\n"d\u2028\ne""" ,"y" \n', encoding="utf-8")
    assert find_separation(path, ["body", "queue"]).names == ["body", "queue"]
