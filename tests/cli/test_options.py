"""Tests which command-line values are refused: empty, too long or unfit for a file's name."""

from pathlib import Path

import pytest

from krona_tune import cli
from krona_tune.cli import studies
from tests.cli.flags import options_of
from tests.conftest import Run

TEXTS = sorted(
    options_of(studies.run)
    - {"--shared", "--per-task", "--dry-run", "--quiet", "--or-resume", "--version"}
    - {"--seed", "--cpus-per-trial", "--gpus-per-trial", "--max-concurrent", "--price"}
)


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("--learning-rate", "training.learning_rate"),
        ("--epochs=3", "schedule.epochs"),
        ("--precision", "precision"),
    ],
)
def test_a_key_of_the_yaml_that_is_given_as_an_option_is_named(run: Run, word: str, key: str) -> None:
    code, _, err = run("--dry-run", word, "3")
    option = word.partition("=")[0]
    odd = option.removeprefix("--").replace("-", "_")
    assert (code, err) == (2, f"{option}: {odd!r} is a key of the YAML and no option; write --set {key}=VALUE\n")


def test_an_option_that_is_no_key_is_compared_with_the_known_ones(run: Run) -> None:
    code, _, err = run("--dry-run", "--taks", "cola")
    assert code == 2
    assert "No such option: --taks" in err
    assert "--tasks" in err


@pytest.mark.parametrize("value", ["", "  "], ids=["empty", "blank"])
@pytest.mark.parametrize("flag", TEXTS)
def test_an_empty_value_is_refused_and_not_taken_for_none(run: Run, flag: str, value: str) -> None:
    for words in ([flag, value], [f"{flag}={value}"]):
        code, _, err = run("--dry-run", *words)
        assert (code, err) == (2, f"{flag}: its value is empty; give one, or leave it out\n")
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("verb", "place"),
    [
        (["show", ""], "STUDY"),
        (["watch", ""], "STUDY"),
        (["report", "first", ""], "STUDIES"),
        (["check", ""], "SPACE"),
        (["export", "first", "--to", ""], "--to"),
        (["predict", "first", "--task", ""], "--task"),
        (["list", "--storage", ""], "--storage"),
        (["resume", ""], "STUDY"),
        (["sync", "first", "--tracking-uri", ""], "--tracking-uri"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else each,
)
def test_no_verb_takes_an_empty_word(run: Run, verb: list[str], place: str) -> None:
    code, _, err = run(*verb, program=cli.main)
    assert (code, err) == (2, f"{place}: its value is empty; give one, or leave it out\n")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("a" * 300, "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…' has 300 bytes in one name; use at most 255"),
        ("a/" * 2000, "/a/…' has 4000 bytes in all; use at most 3000"),
        ("a\nb", r"'a\nb' holds the control character '\n'; leave that out"),
        ("\x1b[31m", r"'\x1b[31m' holds the control character '\x1b'; leave that out"),
        ("a\udcff", r"'a\udcff' is no text in UTF-8; use a name in UTF-8"),
    ],
    ids=["a long name", "a long path", "a line end", "an escape", "other bytes"],
)
@pytest.mark.parametrize("flag", [flag for flag in TEXTS if flag != "--set"])
def test_a_value_that_no_file_can_have_as_a_name_is_refused(run: Run, flag: str, value: str, problem: str) -> None:
    code, _, err = run("--dry-run", flag, value)
    assert code == 2
    assert err.startswith(f"{flag}: ")
    assert err.endswith(f"{problem}\n")
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("words", [["--dry-run"], ["--resume", "first"], ["--or-resume", "--name", "first"]])
def test_a_project_that_w_and_b_can_not_have_is_refused_at_once(run: Run, words: list[str]) -> None:
    said = "--wandb: 'a/b/c' is no project of W&B; write PROJECT or TEAM/PROJECT\n"
    assert run(*words, "--wandb", "a/b/c") == (2, "", said)
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "-1"], "--seed: -1 is refused; write 0 or more"),
        (["--price", "-1"], "--price: -1.0 is refused; write a number above 0"),
        (["--time-budget", "0s"], "--time-budget: 0 is refused; write a number above 0"),
        (["--set", "adapter.scale=-1"], "--set adapter.scale: -1 is refused; write a number above 0"),
        (["--set", "seed=-1", "--seed", "-2"], "--seed: -2 is refused; write 0 or more"),
        (
            ["--set", "search={trials: 3}", "--time-budget", "0s"],
            "--time-budget: 0 is refused; write a number above 0",
        ),
        (
            ["--set", "search.trials=5", "--set", "search={trials: 0}"],
            "--set search: trials: 0 is refused; write 1 or more",
        ),
        (
            ["--set", "search={trials: 5}", "--set", "search.trials=0"],
            "--set search.trials: 0 is refused; write 1 or more",
        ),
        (["--set", "adapter.scael=2"], "--set adapter.scael: unknown key 'scael', did you mean 'scale'?"),
        (["--set", "sede=2"], "--set sede: unknown key 'sede', did you mean 'seed'?"),
        (["--set", "search={trials: 0}"], "--set search: trials: 0 is refused; write 1 or more"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_value_out_of_range_is_refused_where_it_was_given(run: Run, words: list[str], said: str) -> None:
    assert run("--dry-run", "--tasks", "cola", *words) == (2, "", f"{said}\n")
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("search: 3\n", ["--trials", "4"], "data: search: 'search' holds 3, not keys; name an existing path"),
        ("search: 3\n", ["--per-task"], "data: search: 'search' holds 3, not keys; name an existing path"),
        (
            "seed: 1\n",
            ["--seed", "2", "--data", "mini"],
            "data: the key 'model' is missing; add it, or give one with --model",
        ),
        ("model: tiny\nseed: -1\n", ["--trials", "4"], "data: seed: -1 is refused; write 0 or more"),
    ],
)
def test_what_the_file_says_is_refused_in_the_file(run: Run, text: str, words: list[str], said: str) -> None:
    Path("data").write_text(text, encoding="utf-8")
    assert run("--dry-run", "--tasks", "cola", "--space", "data", *words) == (2, "", f"{said}\n")


@pytest.mark.parametrize("words", [["--dry-run"], ["--resume", "first"], ["--or-resume", "--name", "first"]])
def test_a_tracking_uri_that_no_store_can_have_is_refused_at_once(run: Run, words: list[str]) -> None:
    code, out, err = run(*words, "--tracking-uri", "foo://x")
    assert (code, out) == (2, "")
    assert err.startswith("--tracking-uri: unknown scheme 'foo'; known: databricks, databricks-uc, http, https, ")
    assert not list(Path.cwd().iterdir())
