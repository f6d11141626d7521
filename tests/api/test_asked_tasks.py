"""Tests of which tasks a request names."""

from pathlib import Path

import pytest

from krona_tune.api.asked_tasks import asked_tasks
from krona_tune.data.tasks import GLUE
from krona_tune.refusal import Refusal
from krona_tune.study.request.loader import dump_spec, load_spec, tasks_defined_in
from tests.study.request.written_specs import load_changed

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
        ("MNLII", "--tasks: unknown task 'MNLII', did you mean 'mnli'?"),
        (
            "cola,my.csv",
            "--tasks: my.csv does not say which columns hold texts and labels; write my.csv:TEXT:LABEL with its "
            "columns (my.csv:TEXT+TEXT:LABEL for pairs), or describe the task in a file .yaml",
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


@pytest.mark.parametrize("file", ["x,y/films.csv", "films, new,ones.csv"])
def test_commas_in_a_file_s_name_separate_no_tasks(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("text,label\n")
    (tmp_path / "tick,ets.yaml").write_text(TICKETS)
    found = asked_tasks(f"cola, {path}:text:label,rte,{tmp_path}/tick,ets.yaml,sst2", {})
    assert isinstance(found, dict)
    name = {"films.csv": "films", "films, new,ones.csv": "films_new_ones"}[path.name]
    assert list(found) == ["cola", name, "rte", "tickets", "sst2"]
    assert found[name]["data"] == str(path)


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
    spec = load_changed(path, (), {"tasks": asked_tasks("tickets,rte", tasks_defined_in(path))})
    assert (spec.tasks, list(spec.own_tasks)) == (("tickets", "rte"), ["tickets"])
    assert spec.schedule.epochs == {"default": 3, "tickets": 5}
    assert spec.examples.train == {"default": 9}
    assert load_spec(path).tasks == ("tickets", "leads", "rte")


def test_a_setting_may_change_what_a_file_of_tasks_says(tmp_path: Path) -> None:
    (tmp_path / "tickets.yaml").write_text(TICKETS)
    (tmp_path / "space.yaml").write_text("model: m\n")
    asked = asked_tasks(f"{tmp_path}/tickets.yaml", {})
    spec = load_changed(tmp_path / "space.yaml", ["tasks.tickets.metric=macro_f1"], {"tasks": asked})
    assert spec.own_tasks["tickets"].metric == ("macro_f1",)
    assert "metric" not in asked["tickets"]
    (tmp_path / "prices.yaml").write_text("tasks: {tickets: {data: tickets.csv, text: body, label: price}}\n")
    prices = asked_tasks(f"{tmp_path}/prices.yaml", {})
    numbers = load_changed(tmp_path / "space.yaml", ["tasks.tickets.regression=true"], {"tasks": prices})
    assert numbers.own_tasks["tickets"].metric == ("pearson",), "nobody has named another one"


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
    (tmp_path / "own.yaml").write_text(TICKETS.replace("tickets:", "cola:"))
    for glue in ("cola", "glue"):
        with pytest.raises(Refusal, match=f"--tasks: {glue} describes cola, which is described before; rename one"):
            asked_tasks(f"{tmp_path}/own.yaml,{glue}", {})
    assert asked_tasks("cola,glue,CoLA", {})[0] == "cola"
