"""Tests how bad input is refused, and what happens to any other error."""

import pickle

import pytest

from krona_tune import cli
from krona_tune.refusal import NotNow, Refusal, refusing, shown, told, unknown


def test_what_an_outside_library_raises_becomes_a_refusal_of_one_line() -> None:
    with pytest.raises(Refusal) as refused, refusing("--model x", "can't be loaded", "save it again"):
        raise RuntimeError("\n  first line  \nsecond line")
    assert str(refused.value) == "--model x: can't be loaded (RuntimeError: first line); save it again"


def test_a_panic_of_a_library_in_rust_becomes_a_refusal_and_an_interruption_does_not() -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    with pytest.raises(Refusal, match=r"x: can't be read \(PanicException: no entry\)"), refusing("x", "can't be read"):
        raise panic("no entry")
    with pytest.raises(KeyboardInterrupt), refusing("x", "can't be read"):
        raise KeyboardInterrupt


def test_a_refusal_passes_as_it_is() -> None:
    with pytest.raises(Refusal) as refused, refusing("outer", "is wrong"):
        raise Refusal("inner", "is odd", "fix it")
    assert str(refused.value) == "inner: is odd; fix it"


def test_a_refusal_of_another_place_stays_of_its_class() -> None:
    refusal = NotNow("--resume", "is busy", "wait")
    found = [refusal.at("name"), refusal.at("name", fix=""), refusal.at("name", problem="is taken")]
    assert [str(each) for each in found] == ["name: is busy; wait", "name: is busy", "name: is taken; wait"]
    assert {type(each) for each in found} == {NotNow}


def test_an_error_without_words_is_told_by_its_kind() -> None:
    assert told(EOFError()) == "EOFError"
    assert told(ValueError("x" * 1000)) == "ValueError: " + "x" * 300
    assert [told(error, -1) for error in (OSError("\n"), OSError("a\nb \n\n"))] == ["OSError", "OSError: b"]


def test_a_refusal_shows_control_characters_and_cuts_very_long_words() -> None:
    refusal = Refusal("--name", "a\x00\x1b[31m and " + "9" * 5000, "écrivez\tautre chose")
    assert str(refusal) == f"--name: a\\x00\\x1b[31m and {'9' * 80}…{'9' * 40}; écrivez\\tautre chose"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (1, "1"), ("a ", "'a '"), ({"a": 2}, "{'a': 2}"), ("xy " * 40, "'" + "xy " * 26)],
)
def test_a_value_is_shown_as_it_is_written_and_cut_where_it_is_long(value: object, text: str) -> None:
    assert shown(value).startswith(text)
    assert len(shown(value)) <= 101


def test_a_number_that_python_does_not_write_is_shown_too() -> None:
    assert shown(16**5000) == "a value too large to be shown"


def test_an_unknown_word_is_cut_where_it_is_long() -> None:
    assert len(str(unknown("x", "key", "a b " * 5000, ["c"]))) < 200


def test_known_words_are_cut_and_their_list_ends() -> None:
    said = str(unknown("x", "label", "z" * 5_000, [f"{number} {'a b ' * 5_000}" for number in range(1_000)]))
    assert said.endswith(" and 900 more")
    assert len(said) < 15_000
    assert "did you mean" in str(unknown("x", "label", "abcd", ["abcde", "a b " * 100_000]))


def test_a_refusal_crosses_a_process_border() -> None:
    refusal = pickle.loads(pickle.dumps(Refusal("a", "b", "c")))
    assert (refusal.place, refusal.problem, refusal.fix, str(refusal)) == ("a", "b", "c", "a: b; c")


def test_an_error_of_ours_ends_with_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise KeyError("a flaw")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 70
    assert "KeyError: 'a flaw'" in capsys.readouterr().err
