"""Tests what a service offers to whoever begins a study, what is sent, and that all else is refused at its field."""

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from starlette.testclient import TestClient

from krona_tune.service.new_study.data_roots import DataRoots
from krona_tune.service.new_study.new_studies import NewStudies
from krona_tune.service.new_study.study_form import FIELDS, FormField, NewStudy
from krona_tune.service.queue.database import Database
from krona_tune.study.request.loader import parse_spec
from krona_tune.study.request.study_spec import StudySpec

PACKAGED = "sentence-transformers/all-MiniLM-L6-v2"
GLUE: dict[str, Any] = {"data": "mini", "tasks": ["rte", "cola"], "text": "", "label": ""}
Answer = tuple[int, dict[str, Any]]


@pytest.fixture
def own(data: Path) -> dict[str, Any]:
    return {
        "name": "mine",
        "data": str(data / "reviews.csv"),
        "text": "text",
        "label": "label",
        "model": PACKAGED,
        "trials": 3,
    }


def begun(client: TestClient, asked: dict[str, Any], path: str = "/api/studies", user: str = "bo") -> Answer:
    answer = client.post(path, json=asked, headers={"X-User": user})
    return answer.status_code, answer.json()


def kept(root: Path, entry: int = 1) -> StudySpec:
    """Returns the request that the queue keeps."""
    return parse_spec(Database(root / "queue.db").submission(entry).space, "kept", root)


def test_the_offer_lists_what_is_below_the_roots_and_what_is_shipped(begins: TestClient, data: Path) -> None:
    offer = begins.get("/api/data").json()
    assert [(each["value"], each["words"], each["kind"]) for each in offer["data"]] == [
        ("mini", "mini-GLUE (synthetic)", "mini"),
        (str(data), "data", "glue"),
        (str(data / "reviews.csv"), "data/reviews.csv", "file"),
    ]
    assert offer["data"][1]["tasks"] == ["cola"]
    assert [each["value"] for each in offer["model"]] == [PACKAGED, str(data / "minilm")]
    assert {"mini", "kronecker"} <= {each["value"] for each in offer["space"]}
    assert [each["value"] for each in offer["deploy"]][-1] == "vllm:64"
    file = {"file": str(data / "reviews.csv")}
    assert begins.get("/api/data/columns", params=file).json() == {"columns": ["text", "label", "score"]}


def test_a_file_of_one_s_own_becomes_a_task_in_a_space_that_is_made(
    begins: TestClient, own: dict[str, Any], root: Path, data: Path
) -> None:
    status, answer = begun(begins, own | {"time_budget": "20min", "priority": 4})
    assert status == 201, answer
    assert (answer["entry"]["name"], answer["entry"]["person"], answer["entry"]["priority"]) == ("mine", "bo", 4)
    spec = kept(root)
    task = spec.own_tasks["reviews"]
    assert (task.data, task.text, task.label, task.regression) == (own["data"], ("text",), "label", False)
    assert (spec.name, spec.model, spec.search.trials, spec.search.time_budget) == ("mine", PACKAGED, 3, 1200)
    assert "examples.max_length" in spec.reasons


def test_numbers_and_two_texts_are_answered_as_such_in_a_shipped_space(
    begins: TestClient, own: dict[str, Any], root: Path, data: Path
) -> None:
    more = {"second_text": "label", "label": "score", "answers": "numbers", "space": "kronecker", "deploy": "merged"}
    status, answer = begun(begins, own | more | {"model": str(data / "minilm")})
    assert status == 201, answer
    spec = kept(root)
    task = spec.own_tasks["reviews"]
    assert (task.text, task.label, task.regression, task.metric) == (("text", "label"), "score", True, ("pearson",))
    assert (spec.model, [str(each) for each in spec.deploy], spec.adapter["method"].plain()) == (
        str(data / "minilm"),
        ["merged"],
        ["krona", "cdka", "lokr", "lora"],
    )


@pytest.mark.parametrize("space", ["mini", ""])
def test_tasks_of_glue_are_taken_from_where_they_are(
    begins: TestClient, own: dict[str, Any], root: Path, data: Path, space: str
) -> None:
    asked = own | GLUE | ({"space": space} if space else {"data": str(data), "tasks": ["cola"], "space": "minilm"})
    status, answer = begun(begins, asked)
    assert status == 201, answer
    spec = kept(root)
    assert (spec.data, list(spec.tasks)) == (asked["data"], asked["tasks"])


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "../x", "'../x' is no name of a study; use letters"),
        ("name", "first", "holds a study; choose another name"),
        ("data", "/etc/passwd", "unknown data '/etc/passwd'"),
        ("data", "{data}/CoLA/train.tsv", "unknown data"),
        ("data", "{data}/../data/reviews.csv", "unknown data"),
        ("data", "hub:imdb", "unknown data 'hub:imdb'"),
        ("text", "", "no column is chosen; choose one of text, label, score"),
        ("text", "body", "unknown column 'body'"),
        ("label", "text", "the column 'text' is chosen twice"),
        ("second_text", "nope", "unknown column 'nope'"),
        ("tasks", ["cola"], "tasks is not about these data; leave it empty"),
        ("model", "google-t5/t5-base", "unknown model 'google-t5/t5-base'"),
        ("model", "", "unknown model ''"),
        ("space", "{data}/space.yaml", "unknown space"),
        ("space", "minii", "unknown space 'minii', did you mean 'mini'?"),
        ("trials", "x", "'x' is not a number of trials; give a whole number from 1"),
        ("trials", "+3", "'+3' is not a number of trials"),
        ("time_budget", "soon", "'soon' is refused; write a time such as 90s"),
        ("deploy", "mergd", "unknown deploy 'mergd', did you mean 'merged'?"),
        ("deploy", "gguf", "llama.cpp's LoRA has no head of a task"),
        ("label", "score", "is that of no training example"),
    ],
)
def test_each_refusal_names_its_field(
    begins: TestClient, own: dict[str, Any], study: object, data: Path, field: str, value: Any, said: str
) -> None:
    asked = own | {field: value.replace("{data}", str(data)) if isinstance(value, str) else value}
    for path in ("/api/plan", "/api/studies"):
        status, answer = begun(begins, asked, path)
        assert (status, answer["place"]) == (422, field), answer
        assert said in f"{answer['problem']}; {answer['fix']}"
    assert begins.get("/api/queue").json()["entries"] == []


class LongerForm(NewStudy):
    objective: Annotated[str, FormField(words="Objective")] = ""


def test_a_field_that_is_added_and_has_the_name_of_a_setting_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FIELDS, "objective", FormField(words="Objective"))
    sent: list[Any] = []
    queue: Any = SimpleNamespace(plan=sent.append)
    asked = LongerForm(name="mine", data="mini", tasks=("rte",), model=PACKAGED, objective="pareto")
    NewStudies(DataRoots(()), queue).plan(asked)
    given = {each.key: each.value for each in sent[0].given}
    assert given == {"data": "mini", "tasks": ["rte"], "model": PACKAGED, "search.objective": "pareto"}


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"priority": 11}, "body.priority"),
        ({"answers": "texts"}, "body.answers"),
        ({"metric": "m:f"}, "body.metric"),
        ({"id": "<b>"}, "body.id"),
        ({"tasks": ["x"] * 21}, "body.tasks"),
    ],
)
def test_what_no_form_sends_is_refused(
    begins: TestClient, own: dict[str, Any], more: dict[str, Any], place: str
) -> None:
    status, answer = begun(begins, own | more)
    assert (status, answer["place"]) == (422, place)


def test_tasks_that_the_data_lack_or_none_are_refused(begins: TestClient, own: dict[str, Any], data: Path) -> None:
    for tasks, said in (([], "no task is chosen; choose one or several of cola"), (["rte"], "unknown task 'rte'")):
        status, answer = begun(begins, own | GLUE | {"data": str(data), "tasks": tasks})
        assert (status, answer["place"]) == (422, "tasks")
        assert said in f"{answer['problem']}; {answer['fix']}"


def test_the_plan_is_what_a_dry_run_prints_and_queues_nothing(begins: TestClient, own: dict[str, Any]) -> None:
    status, answer = begun(begins, own, "/api/plan")
    assert status == 200, answer
    for said in (
        "  trials  3 a task by TPE",
        "reviews, as the model will see it:",
        "a good book of 1 pages",
        "  memory ",
    ):
        assert said in answer["text"]
    assert "\x1b" not in answer["text"]
    assert begins.get("/api/queue").json()["entries"] == []


def test_a_form_that_is_sent_twice_begins_one_study(begins: TestClient, own: dict[str, Any]) -> None:
    asked = own | GLUE | {"space": "mini", "id": "form-1"}
    first = begun(begins, asked)
    begins.delete("/api/queue/1")  # its place is free again, and the form still is the same
    assert begun(begins, asked) == first
    status, answer = begun(begins, asked | {"trials": 4})
    assert (status, answer["place"], answer["fix"]) == (422, "id", "open a new form")
    assert begun(begins, asked, user="ann")[0] == 422
    assert [entry["id"] for entry in begins.get("/api/queue").json()["entries"]] == [1]
    status, answer = begun(begins, asked | {"id": "form-2", "name": "other"})
    assert (status, answer["entry"]["id"]) == (201, 2)
    status, answer = begun(begins, asked | {"id": "form-3", "name": "other", "trials": 4})
    assert (status, answer["place"], answer["problem"]) == (422, "name", "'other' has a place in the queue")


def test_a_file_that_went_since_is_refused_and_columns_are_read_of_offered_files_alone(
    begins: TestClient, own: dict[str, Any], data: Path
) -> None:
    for file in ("/etc/passwd", str(data / "CoLA/train.tsv"), str(data / "minilm/config.json"), "", "mini"):
        answer = begins.get("/api/data/columns", params={"file": file})
        assert (answer.status_code, answer.json()["place"]) == (422, "data")
    (data / "reviews.csv").unlink()
    assert begun(begins, own)[1]["place"] == "data"
