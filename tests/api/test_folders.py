"""Tests which folders and names a study can have: others are refused at once, and `~` is the home."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from krona_tune import cli
from krona_tune.api.folders import (
    OF_THE_STORAGE,
    adapter_folder,
    earlier_studies,
    existing,
    new_name,
    refuse_taken,
    study_folder,
)
from krona_tune.cli import studies
from krona_tune.record.ownership import claim
from krona_tune.record.remote_files import Store
from krona_tune.record.storage import Storage, storage_at
from krona_tune.refusal import NotNow, Refusal
from krona_tune.search.startup import cluster
from krona_tune.study.folder import StudyFolder
from tests.conftest import Run


@pytest.fixture
def asked(model: str) -> list[str]:
    """Returns a valid request, except for what a test adds."""
    return ["--dry-run", "--space", "mini", "--model", model, "--tasks", "cola", "--data", "mini"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file", "--storage: file is no folder; name a folder, or one that can be made"),
        ("file/below/it", "--storage: file is no folder"),
        ("dangling", "--storage: dangling is no folder"),
        ("~/file", "/file is no folder"),
    ],
)
@pytest.mark.parametrize("program", [cli.run_study, cli.main], ids=["run", "list"])
def test_a_storage_that_is_a_file_is_refused_at_once(
    run: Run, asked: list[str], monkeypatch: pytest.MonkeyPatch, place: str, said: str, program: object
) -> None:
    Path("file").touch()
    Path("dangling").symlink_to("nowhere")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    words = asked if program is cli.run_study else ["list"]
    code, out, err = run(*words, "--storage", place, program=program)  # type: ignore[arg-type]
    assert (code, out) == (2, "")
    assert said in err


def test_home_is_known_in_storage_space_and_model(
    run: Run, asked: list[str], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(model).parent
    monkeypatch.setenv("HOME", str(home))
    (home / "x.yaml").write_text("adapter: {scale: [1, 2]}\nmodel: ~/minilm\n", encoding="utf-8")
    code, out, err = run("--dry-run", "--storage=~/kept", "--space=~/x.yaml", "--name", "first", "--data", "mini")
    assert (code, err) == (0, "")
    assert f"  folder  {home}/kept/first\n" in out
    assert run("check", "~/x.yaml", "--set", "data=mini", program=cli.main)[::2] == (0, "")
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("name", [*sorted(OF_THE_STORAGE), "MLflow.db"])
def test_a_name_of_the_storage_s_own_files_is_refused(run: Run, asked: list[str], name: str) -> None:
    code, _, err = run(*asked, "--name", name)
    problem = f"{name} is the name of a file that a storage keeps"
    assert (code, err) == (2, f"--name: {problem}; choose another name\n")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a" * 129, "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…' has 129 bytes; use at most 128"),
        ("a" + "é" * 64, "has 129 bytes; use at most 128"),
        ("..", "'..' is no name of a study"),
        ("a/b", "'a/b' is no name of a study"),
        ("-a", "'-a' is no name of a study"),
        ("a b", "'a b' is no name of a study; use letters, digits, '.', '_' and '-'"),
    ],
)
def test_a_name_that_no_study_can_have_is_refused(run: Run, asked: list[str], name: str, problem: str) -> None:
    code, _, err = run(*asked, f"--name={name}")
    assert code == 2
    assert err.startswith("--name: ")
    assert problem in err


def test_a_file_in_a_study_s_place_is_refused(run: Run, asked: list[str]) -> None:
    Path("studies").mkdir()
    Path("studies/first").touch()
    code, _, err = run(*asked, "--name", "first")
    assert (code, err) == (2, "--name: studies/first is no folder; choose another name\n")


def test_a_link_to_itself_in_a_study_s_place_is_refused(run: Run, asked: list[str]) -> None:
    Path("studies").mkdir()
    Path("studies/mine").symlink_to("mine")
    code, _, err = run(*asked, "--name", "mine")
    assert (code, err) == (2, "--name: studies/mine is no folder; choose another name\n")


def test_a_folder_that_holds_a_study_but_can_not_be_named_is_told_apart_from_an_unknown_one(tmp_path: Path) -> None:
    for name in ("mine [old]", "copied"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.yaml").touch()
    with pytest.raises(Refusal, match=r"folder 'mine \[old\]' has no name of a study; rename it: use letters, digits"):
        existing(Storage(folder=tmp_path), "mine [old]")
    copies = Storage(folder=tmp_path / "here", uri=tmp_path.as_uri())
    with pytest.raises(Refusal, match=r"'copied' has no files.json there that names its files; copy that too"):
        existing(copies, "copied")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes `en` in two storages and, beside `alone`, in the folder that this process goes to."""
    for study in ("here/en", "here/alone", "other/en", "here/studies/en"):
        (tmp_path / study).mkdir(parents=True)
        (tmp_path / study / "study.yaml").touch()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_bare_name_with_another_storage_is_never_a_folder_here(here: Path) -> None:
    kept = here.parent / "other"
    other = storage_at(str(kept))
    assert study_folder(other, "en").root == kept / "en"
    assert earlier_studies(other, ["en"]) == (str(kept / "en"),)
    with pytest.raises(Refusal, match=rf"^{kept}: unknown study 'alone'"):
        study_folder(other, "alone")
    for path in ("./en", "en/", str(here / "en")):
        assert study_folder(other, path).root.absolute() == here / "en"
    (here / "en" / "adapter.json").touch()
    with pytest.raises(Refusal, match=f"^{kept / 'en'}: holds no adapter"):
        adapter_folder(other, "en", None)
    assert adapter_folder(other, "./en", None).absolute() == here / "en"


def test_a_bare_name_without_a_storage_is_a_study_of_the_usual_one_before_a_folder_here(here: Path) -> None:
    usual = storage_at("studies")
    assert study_folder(usual, "en").root == Path("studies/en")
    assert study_folder(usual, "alone").root == Path("alone")


@pytest.mark.parametrize("stem", ["x", "my space (2)", "ü" * 90, ".hidden", "a" * 250])
def test_a_name_that_is_made_is_one_that_a_study_can_be_resumed_by(stem: str) -> None:
    from krona_tune.api.folders import refuse_odd

    refuse_odd(new_name(Path(f"{stem}.yaml")))


@pytest.mark.parametrize("uri", ["s3://", "file:///", "://x", "://"])
def test_a_uri_without_a_protocol_or_a_place_is_refused(uri: str) -> None:
    with pytest.raises(Refusal, match=r"--storage: '.*' names no place; write protocol://place/folder"):
        storage_at(uri)


def test_a_storage_is_looked_at_and_not_made(tmp_path: Path) -> None:
    storage_at(str(tmp_path / "a" / "b"))
    assert not (tmp_path / "a").exists()
    (tmp_path / "c").touch()
    with pytest.raises(Refusal, match="c is no folder"):
        storage_at(str(tmp_path / "c"))


@pytest.mark.parametrize("words", [["--name", "first"], ["--resume", "first"], ["--or-resume", "--name", "first"]])
def test_a_study_that_is_being_run_is_refused_before_anything_is_looked_at(
    run: Run, model: str, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(studies, "run_and_report", lambda *given, **flags: pytest.fail("it was looked at"))
    folder, new = StudyFolder(Path("studies/first")), words[0] == "--name"
    with claim(folder):
        if not new:
            folder.spec.write_text(f"model: {model}\ndata: mini\ntasks: [cola]\n", encoding="utf-8")
        code, _, err = run(*words, *(["--space", "mini", "--model", model] if new else []))
        place, fix = "studies/first", "wait for it; krona-tune watch first shows how far it is"
        if new:
            place, fix = "--name", "wait for it, or choose another name"
        assert (code, err) == (2, f"{place}: the study 'first' is being run; {fix}\n")


def test_a_study_that_is_starting_is_not_called_unknown(tmp_path: Path) -> None:
    storage = storage_at(str(tmp_path / "studies"))
    with claim(storage.study("first")), pytest.raises(NotNow, match="the study 'first' is starting; look again when"):
        existing(storage, "first")
    with pytest.raises(Refusal, match="no study 'first'; there are no studies"):
        existing(storage, "first")


def test_a_log_that_is_a_folder_is_refused_before_ray_starts(
    run: Run, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "connecting", lambda address, asked: pytest.fail("Ray was started"))
    Path("studies/first/study.log").mkdir(parents=True)
    code, _, err = run(*asked[1:], "--name", "first")
    assert code == 2
    assert err.startswith("studies/first/study.log: the log can't be written (IsADirectoryError: ")
    assert err.endswith("; move it away, or make it writable\n")
    assert [path.name for path in Path("studies/first").iterdir()] == ["study.log"]


def test_a_study_that_was_begun_while_this_one_waited_is_not_begun_again(
    run: Run, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def claimed_late(folder: StudyFolder) -> Iterator[None]:
        folder.root.mkdir(parents=True)
        folder.spec.touch()
        yield

    monkeypatch.setattr(studies, "claim", claimed_late)
    code, _, err = run(*asked[1:], "--name", "first")
    assert (code, "holds a study; use --resume first" in err) == (2, True)


def test_a_study_whose_copy_is_gone_is_named_by_its_folder(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "first", remote=f"file://{tmp_path}/there/first")
    folder.root.mkdir()
    folder.spec.touch()
    with pytest.raises(Refusal, match=r"there/first does not hold the study, but .*/first does; use --resume first"):
        refuse_taken(folder, "first")
    Store(str(folder.remote)).write("files.json", b"{}")
    with pytest.raises(Refusal, match=r"there/first holds a study; use --resume first"):
        refuse_taken(folder, "first")
