"""Tests what a request names: tasks, and shipped spaces, which never hide a person's own file."""

import importlib
import zipfile
from pathlib import Path

import pytest

from krona_tune import cli
from krona_tune.api import inputs
from krona_tune.api.inputs import asked_tasks, find_space, question, space_names, space_text
from krona_tune.data.tasks import GLUE
from krona_tune.refusal import Refusal
from krona_tune.study.request.loader import dump_spec, load_spec, tasks_defined_in
from tests.conftest import Run

TICKETS = """tasks:
  tickets: {data: tickets.csv, text: body, label: queue}
"""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("glue", GLUE),
        ("cola,sst2", ("cola", "sst2")),
        (" SST-2 , STS-B,", ("sst2", "stsb")),
        ("rte,cola,rte", ("rte", "cola")),
        ("wnli,glue", ("wnli", *GLUE)),
    ],
)
def test_tasks_are_read_in_their_order_without_repeats(text, names):
    assert asked_tasks(text, {}) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cola,mnlii", "--tasks: unknown task 'mnlii', did you mean 'mnli'?"),
        (
            "cola,my.csv",
            "--tasks: my.csv holds examples, it describes no task; describe it in a file: "
            "tasks: {NAME: {data: my.csv, text: COLUMN, label: COLUMN}}; name that, which ends in .yaml",
        ),
        (" , ", "--tasks: no task in ' , '; known: glue, cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli"),
    ],
)
def test_a_wrong_word_is_refused_with_a_fix(text, message):
    with pytest.raises(Refusal) as refused:
        asked_tasks(text, {})
    assert str(refused.value) == message


def test_a_file_gives_its_tasks_with_whole_paths(tmp_path: Path) -> None:
    (tmp_path / "tickets.yaml").write_text(TICKETS)
    found = asked_tasks(f"{tmp_path}/tickets.yaml,cola", {})
    assert isinstance(found, dict)
    assert list(found) == ["tickets", "cola"]
    assert found["cola"] == "glue"
    assert found["tickets"]["data"] == str(tmp_path / "tickets.csv")


def test_a_task_that_the_space_defines_can_be_named() -> None:
    assert asked_tasks("Leads,rte", {"Leads": {"data": "x.csv"}}) == {"Leads": {"data": "x.csv"}, "rte": "glue"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: [cola]\n", "has no key 'tasks' with a task below it; write tasks: {NAME: {data: FILE, …}}"),
        ("model: x\n", "has no key 'tasks' with a task below it; write tasks: {NAME: {data: FILE, …}}"),
        (TICKETS + "search: {trials: 3}\n", "the key 'search' is not about tasks; write it into a space, for --space"),
        (
            TICKETS.replace("queue", "body"),
            ": tasks.tickets: the label 'body' is a text that the model reads; name another column",
        ),
        (
            TICKETS.replace("queue", "[a, b]"),
            ": tasks.tickets.label: several labels for one text: multi-label classification is not supported; "
            "name one column",
        ),
        (
            TICKETS.replace("label", "tokens"),
            ": tasks.tickets.tokens: token labelling is not supported; "
            "name a column with whole texts with text: COLUMN",
        ),
        (
            TICKETS.replace("tickets:", "my tickets:"),
            ": tasks: 'my tickets' is refused; write a name of letters, digits and _, at most 40, a letter first",
        ),
        (TICKETS.replace("label", "labell"), ": tasks.tickets: unknown key 'labell', did you mean 'label'?"),
    ],
)
def test_a_wrong_file_of_tasks_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.yaml").write_text(text)
    with pytest.raises(Refusal) as refused:
        asked_tasks(str(tmp_path / "tasks.yaml"), {})
    assert str(refused.value).removeprefix(f"{tmp_path}/tasks.yaml").removeprefix(": ") == message.removeprefix(": ")


def test_a_space_can_be_narrowed_to_some_of_its_tasks(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "model: m\n" + TICKETS + "  leads: {data: leads.csv, text: body, label: won}\n  rte: glue\n"
        "schedule: {epochs: {default: 3, tickets: 5, leads: 7}}\nexamples: {train: {default: 9, leads: 2}}\n"
    )
    spec = load_spec(path, (), {"tasks": asked_tasks("tickets,rte", tasks_defined_in(path))})
    assert (spec.tasks, list(spec.own_tasks)) == (("tickets", "rte"), ["tickets"])
    assert spec.schedule.epochs == {"default": 3, "tickets": 5}
    assert spec.examples.train == {"default": 9}
    assert load_spec(path).tasks == ("tickets", "leads", "rte")


def test_a_setting_may_change_what_a_file_of_tasks_says(tmp_path: Path) -> None:
    (tmp_path / "tickets.yaml").write_text(TICKETS)
    (tmp_path / "space.yaml").write_text("model: m\n")
    asked = asked_tasks(f"{tmp_path}/tickets.yaml", {})
    spec = load_spec(tmp_path / "space.yaml", ["tasks.tickets.metric=macro_f1"], {"tasks": asked})
    assert spec.own_tasks["tickets"].metric == ("macro_f1",)


def test_a_request_of_own_tasks_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("model: m\n" + TICKETS + "  rte: glue\n")
    spec = load_spec(path)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "study.yaml").write_text(dump_spec(spec))
    assert load_spec(tmp_path / "again" / "study.yaml") == spec
    assert spec.kept()["tasks.tickets.data"] == str(tmp_path / "tickets.csv")


def test_one_task_is_not_described_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(TICKETS.replace("queue", name))
    with pytest.raises(Refusal, match="yaml describes tickets, which is described before; rename one"):
        asked_tasks(f"{tmp_path}/a.yaml,{tmp_path}/b.yaml", {})


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
    monkeypatch.setattr(inputs, "FOLDER", zipfile.Path(tmp_path / "all.zip", "inside/search_spaces/"))
    assert space_names() == ["odd"]
    assert question(space_text("odd")) == "Odd?"
    assert find_space(Path("odd"), "--space").read_text(encoding="utf-8").endswith("model: m\n")


def test_a_checkout_is_read_where_no_installed_package_holds_spaces() -> None:
    assert importlib.reload(inputs).FOLDER == ROOT / "search_spaces"


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
