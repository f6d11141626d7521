"""Tests the command that exports: it prints the code that loads what was written, and refuses what is wrong."""

from pathlib import Path
from shutil import copytree

import pytest

from krona_tune.adapters.adapter_files import TENSORS
from krona_tune.record.ownership import lock_of
from krona_tune.study.folder import StudyFolder
from tests.conftest import Run


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_an_export_tells_what_was_written_and_how_to_load_it(ask: Run, storage: Path, form: str) -> None:
    code, out, err = ask("export", "first", "--storage", storage, "--task", "cola", "--to", "out", "--format", form)
    assert (code, err) == (0, "")
    assert f"Written to {Path.cwd() / 'out'}, " in out
    assert "Largest difference of a logit: " in out
    assert "\nIn the folder that holds `out`:\n\n```python\n" in Path("out", "README.md").read_text(encoding="utf-8")
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


def test_an_adapter_directly_below_the_root_belongs_to_no_study(
    ask: Run, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, resolve = storage / "second" / "adapters" / "cola", Path.resolve
    monkeypatch.setattr(Path, "resolve", lambda path: Path("/cola") if path == adapter else resolve(path))
    code, _, err = ask("export", adapter, "--to", "out")
    assert (code, "krona_b can't be added to the weights" in err) == (2, True), "merged is what no study asks for"


@pytest.mark.parametrize("command", [("predict",), ("export", "--to", "out")], ids=["predict", "export"])
def test_an_adapter_of_another_task_than_was_asked_for_is_refused(
    ask: Run, storage: Path, command: tuple[str, ...]
) -> None:
    name, *more = command
    code, _, err = ask(name, storage / "first" / "adapters" / "cola", *more, "--task", "sst2", typed="fine\n")
    assert code == 2
    assert "--task: " in err
    assert "cola is an adapter of cola, not of sst2; leave it out" in err


def test_an_adapter_of_a_study_that_runs_is_to_be_waited_for(ask: Run, storage: Path) -> None:
    with lock_of(StudyFolder(storage / "empty")):
        code, _, err = ask("export", "empty", "--storage", storage, "--to", "out")
    assert code == 2
    assert "holds no adapter; wait for the study's end; krona-tune watch empty --storage" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["first"], "--task: first has adapters of cola, stsb; choose one with --task"),
        (["first", "--task", "stbs"], "--task: unknown adapter 'stbs', did you mean 'stsb'?"),
        (["first", "--task", "../cola"], "--task: unknown adapter '../cola', did you mean 'cola'?"),
        (["first", "--dtype", "16"], "--dtype: unknown choice '16'; known: bfloat16, float32, int8"),
        (["frist"], "unknown study 'frist', did you mean 'first'?"),
        (["empty"], "holds no adapter; resume the study to its end"),
        (["./nowhere"], "nowhere: holds no adapter.json; give a folder such as studies/NAME/adapters/TASK"),
        (["second"], "--format: merged: krona_b can't be added to the weights of the model; use --format adapter"),
        (["second", "--format", "onxx"], "--format: unknown choice 'onxx', did you mean 'onnx'?"),
        (
            ["second", "--dtype", "int8"],
            "--dtype: merged has no weights in int8; merged is written in float32 or bfloat16",
        ),
        (
            ["second", "--format", "gguf"],
            "gguf: llama.cpp's LoRA has no head of a task, and this bert answers with one",
        ),
        (["second", "--distil", "0"], "Invalid value for '--distil'"),
        (["second", "--distil", "2", "--format", "merged"], "--distil: what it fits is a LoRA of peft, not merged"),
        (["second", "--distil", "2", "--rank", "3"], "--rank: --distil names the rank; leave it out"),
        (
            ["second", "--distil", "2"],
            "--format: krona_b changes no weight of a linear map, as LoRA does; use --format adapter",
        ),
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


def test_help_is_shown_whatever_else_is_written(ask: Run) -> None:
    code, out, _ = ask("export", "--format", "merge", "--help")
    assert (code, "--format" in out) == (0, True)


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
