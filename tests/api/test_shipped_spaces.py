"""Tests of the search spaces that are shipped, and of a person's own."""

import importlib
import zipfile
from pathlib import Path

import pytest

from krona_tune import cli
from krona_tune.api import shipped_spaces
from krona_tune.api.shipped_spaces import find_space, question, space_names, space_text
from krona_tune.refusal import Refusal
from tests.conftest import Run

ROOT = Path(__file__).resolve().parents[2]


PATHS = sorted((ROOT / "search_spaces").glob("*.yaml"))


LONGEST_QUESTION = 110


def test_every_space_of_the_checkout_is_shipped_with_its_own_text() -> None:
    assert space_names() == [path.stem for path in PATHS]
    assert [space_text(name) for name in space_names()] == [path.read_text(encoding="utf-8") for path in PATHS]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_space_says_in_one_short_line_what_it_asks(path: Path) -> None:
    said = question(path.read_text(encoding="utf-8"))
    assert 20 < len(said) < LONGEST_QUESTION
    assert said[0].isupper()
    assert said[-1] in ".?"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# run it\n#\n# Which of a.b\n# and c? More.\nmodel: m\n", "Which of a.b and c?"),
        ("# run it\n#\n# No end\nmodel: m. And more.\n", ""),
        ("model: m\n# Why? \n", ""),
    ],
)
def test_what_a_space_asks_is_the_first_sentence_below_its_command(text: str, said: str) -> None:
    assert question(text) == said


def test_ones_own_file_comes_before_a_shipped_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_space(Path("shapes"), "--space") == ROOT / "search_spaces" / "shapes.yaml"
    Path("shapes").write_text("model: mine\n", encoding="utf-8")
    assert find_space(Path("shapes"), "--space") == Path("shapes")


def test_a_folder_hides_no_shipped_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shapes").mkdir()
    assert find_space(Path("shapes"), "--space").is_file()


@pytest.mark.parametrize("asked", ["shapes.yaml", "search_spaces/nowhere.yaml", "./shapes"])
def test_a_path_never_means_a_shipped_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_space(tmp_path / asked, "--space") == tmp_path / asked
    if asked != "./shapes":  # a Path drops the dot, so the word alone is left
        assert find_space(Path(asked), "--space") == Path(asked)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refusal, match=r"^--space: unknown space 'shape', did you mean 'shapes'\?$"):
        find_space(Path("shape"), "--space")
    with pytest.raises(Refusal, match=r"^NAME: unknown space 'xyzzy'; known: kronecker, kronecker_t5, math, "):
        space_text("xyzzy")


def test_spaces_are_read_from_a_zip_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        file.writestr("inside/search_spaces/odd.yaml", "# run\n#\n# Odd? Yes.\nmodel: m\n")
    monkeypatch.setattr(shipped_spaces, "FOLDER", zipfile.Path(tmp_path / "all.zip", "inside/search_spaces/"))
    assert space_names() == ["odd"]
    assert question(space_text("odd")) == "Odd?"
    assert find_space(Path("odd"), "--space").read_text(encoding="utf-8").endswith("model: m\n")


def test_a_checkout_is_read_where_no_installed_package_holds_spaces() -> None:
    assert importlib.reload(shipped_spaces).FOLDER == ROOT / "search_spaces"


def test_the_commands_list_the_spaces_and_print_one(run: Run) -> None:
    code, out, err = run("spaces", program=cli.main)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == space_names()
    assert "shapes        One question: which factor shape?\n" in out
    assert run("space", "shapes", program=cli.main) == (0, space_text("shapes"), "")
    code, out, err = run("space", "shpes", program=cli.main)
    assert (code, out, err) == (2, "", "NAME: unknown space 'shpes', did you mean 'shapes'?\n")


def test_a_shipped_space_is_run_and_checked_by_its_name(run: Run, model: str) -> None:
    words = ["--space", "shapes", "--model", model, "--tasks", "cola"]
    code, out, err = run("--dry-run", *words)
    assert (code, err) == (0, "")
    assert f"space   {ROOT}/search_spaces/shapes.yaml" in out
    assert "studies/shapes-" in out
    code, out, err = run("check", "scale", "--model", model, program=cli.main)
    assert (code, err) == (0, "")
    assert f"space   {ROOT}/search_spaces/scale.yaml" in out
    assert run("check", "scle", program=cli.main)[2] == "SPACE: unknown space 'scle', did you mean 'scale'?\n"


def test_a_kept_space_is_the_shipped_one(run: Run, tmp_path: Path) -> None:
    """What a person keeps with `krona-tune space NAME > mine.yaml` asks the same."""
    _, out, _ = run("space", "minilm", program=cli.main)
    (tmp_path / "mine.yaml").write_text(out, encoding="utf-8")
    assert (tmp_path / "mine.yaml").read_bytes() == (ROOT / "search_spaces" / "minilm.yaml").read_bytes()
