"""Tests that what a person asks with flags becomes a request, and that a refusal names the flag that gave a value."""

from pathlib import Path

import pytest

from krona_tune.api.asked_request import AskedRequest
from krona_tune.api.shipped_spaces import space_file
from krona_tune.record.storage import storage_at
from krona_tune.refusal import Refusal
from krona_tune.study.request.given_values import GivenValue


def asked(**more: object) -> AskedRequest:
    usual: dict[str, object] = {"space": Path("mini"), "model": None, "settings": None, "keywords": {}}
    return AskedRequest.of(**{**usual, **more})  # type: ignore[arg-type]


def test_settings_come_before_flags_and_each_knows_what_gave_it() -> None:
    made = asked(tasks="rte,cola", model="m", settings=["seed=3"], keywords={"trials": "4", "shared": False})
    assert made.given == [
        GivenValue("seed", 3, "--set seed"),
        GivenValue("tasks", ("rte", "cola"), "--tasks"),
        GivenValue("model", "m", "--model"),
        GivenValue("search.trials", 4, "--trials"),
        GivenValue("search.shared", False, "--per-task"),
    ]


def test_a_named_space_is_taken_and_the_request_has_the_study_s_name_and_what_was_given() -> None:
    made = asked(tasks="rte", settings=["seed=3"], keywords={"trials": "4"})
    chosen = made.chosen()
    assert (chosen.source, chosen.reason) == (space_file("mini"), "")
    spec = made.spec(chosen, "first")
    assert (spec.name, list(spec.tasks), spec.seed, spec.search.trials) == ("first", ["rte"], 3, 4)


def test_a_value_that_does_not_fit_is_refused_with_its_flag() -> None:
    made = asked(keywords={"time_budget": "soon"})
    with pytest.raises(Refusal, match=r"^--time-budget: 'soon' is refused"):
        made.spec(made.chosen(), "first")
    with pytest.raises(Refusal, match="SPACE: unknown space 'minii'"):
        asked(space=Path("minii"), place="SPACE")


def test_files_of_tasks_that_are_set_are_relative_to_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the space's folder is, and the study's when the same command is given again."""
    monkeypatch.chdir(tmp_path)
    films = "{data: f.csv, text: t, label: l, metric: [f1, c.py:m], split: {validation: v.csv, test: 9}}"
    part, column = "tasks.films.split.test={data: t.csv, label: x}", "tasks.films.split.column=part"
    first = [f"tasks={{films: {films}, cola: glue}}", "tasks.films.data=g.csv", "tasks.films.metric=m.py:cost"]
    own, data, metric, test, *others = (each.value for each in asked(settings=[*first, part, column, "seed=3"]).given)
    found = own["films"]
    assert (found["data"], found["split"]) == (f"{tmp_path}/f.csv", {"validation": f"{tmp_path}/v.csv", "test": 9})
    assert (found["metric"], own["cola"]) == (["f1", f"{tmp_path}/c.py:m"], "glue")
    assert (data, metric) == (f"{tmp_path}/g.csv", f"{tmp_path}/m.py:cost")
    assert test == {"data": f"{tmp_path}/t.csv", "label": "x"}
    assert others == ["part", 3]
    odd = ["tasks=3", "tasks.films=[1]", "tasks.films.data=hub:imdb", "tasks.films.data=null"]
    assert [each.value for each in asked(settings=odd).given] == [3, [1], "hub:imdb", None]


def test_earlier_studies_become_whole_paths(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "study.yaml").touch()
    storage = storage_at(str(tmp_path))
    made = asked(keywords={"warm_start": ["before"], "trials": "4"}).with_earlier(storage)
    whole = GivenValue("search.warm_start", [str(tmp_path / "before")], "--warm-start")
    assert made.given == [whole, GivenValue("search.trials", 4, "--trials")]
    assert asked().with_earlier(storage) == asked()
    with pytest.raises(Refusal, match="'befor'"):
        asked(keywords={"warm_start": ["befor"]}).with_earlier(storage)
