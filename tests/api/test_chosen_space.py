"""Tests which space a request gets that names none: a shipped one, or one of its own, which its study keeps."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import krona_tune
from krona_tune.api import study as study_module
from krona_tune.api.chosen_space import choose_space, is_own
from krona_tune.api.shipped_spaces import space_file
from krona_tune.refusal import Refusal
from krona_tune.search.startup import auto_space, cluster, slots
from krona_tune.search.startup.estimate import Speed
from krona_tune.search.startup.slots import Cluster, Node
from krona_tune.study.request.given_values import GivenValue
from krona_tune.study.request.loader import dump_spec, load_spec
from krona_tune.study.request.study_spec import StudySpec
from tests.search.models import saved_bert


def given(**values: Any) -> list[GivenValue]:
    return [GivenValue(key, value, key) for key, value in values.items()]


def test_a_space_of_ones_own_is_for_a_model_data_or_a_task_of_ones_own() -> None:
    own = {"data": "x.csv", "text": "a", "label": "b"}
    assert not is_own(given(tasks=("cola", "rte"), trials=3))
    assert not is_own(given(tasks={"cola": "glue"}))
    assert is_own(given(tasks={"cola": "glue", "mine": own}))
    assert is_own(given(model="m"))
    assert is_own(given(data="hub"))
    assert is_own([GivenValue("tasks.mine.data", "x.csv", "--set")])


@pytest.mark.parametrize(("gpus", "name"), [(0, "mini"), (1, "t5_base")])
def test_others_get_the_shipped_one_of_the_machine(monkeypatch: pytest.MonkeyPatch, gpus: int, name: str) -> None:
    there = slots.Cluster(nodes=(slots.Node(4, gpus),), dashboard="")
    monkeypatch.setattr(slots, "this_machine", lambda: there)
    chosen = choose_space(given(tasks=("cola",)))
    assert chosen.place.stem == name
    assert chosen.reason == f"this machine has {'a' if gpus else 'no'} GPU"


def test_a_cluster_is_joined_with_what_each_trial_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def connect(address: str, resources: Any) -> slots.Cluster:
        asked.append((address, resources.cpus_per_trial, resources.gpus_per_trial))
        return slots.Cluster(nodes=(slots.Node(4, 2),), dashboard="")

    monkeypatch.setattr(cluster, "connect", connect)
    values = [GivenValue("resources.gpus_per_trial", 2, "--gpus-per-trial"), GivenValue("adapter.scale", "x", "--set")]
    assert choose_space(values, "head:6379").place.stem == "t5_base"
    assert choose_space((), "auto").place.stem == "t5_base"
    of_queue = choose_space(given(tasks=("cola",)), on=Cluster(nodes=(Node(4, 1),), dashboard=""))
    assert (of_queue.place.stem, of_queue.reason) == ("t5_base", "the queue has a GPU")
    assert asked == [("head:6379", 1, 2), ("auto", 1, None)]
    with pytest.raises(Refusal, match=r"^--gpus-per-trial: "):
        choose_space([GivenValue("resources.gpus_per_trial", -1, "--gpus-per-trial")], "auto")


@pytest.mark.parametrize("own", [False, True])
def test_a_study_from_python_gets_its_space_from_the_cluster_that_it_runs_on(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    heard: list[StudySpec] = []
    there = slots.Cluster(nodes=(slots.Node(4, 2),), dashboard="")
    monkeypatch.setattr(slots, "this_machine", lambda: slots.Cluster(nodes=(slots.Node(4, 0),), dashboard=""))
    monkeypatch.setattr(cluster, "connect", lambda address, resources: there)
    monkeypatch.setattr(study_module, "leave_ray", lambda lost: None)
    monkeypatch.setattr(study_module, "run_and_report", lambda spec, *_, **__: heard.append(spec))
    words: dict[str, Any] = {"tasks": "cola"}
    if own:
        tasks = {"own": {"data": frame(), "text": "body", "label": "verdict"}}
        words = {"tasks": tasks, "model": str(saved_bert(tmp_path / "bert")), "gpus_per_trial": 1}
    made = krona_tune.Study(**words, address="head:6379", name="first")
    planned = made.request
    made.run()
    if own:
        assert "training.accumulation" not in heard[0].reasons, "the memory of a GPU is not known here"
        assert heard[0].resources.gpus_per_trial == planned.resources.gpus_per_trial == 1
    else:
        assert (planned.data, heard[0].data) == ("mini", load_spec(space_file("t5_base")).data)


def test_what_a_person_gave_is_named_where_it_is_wrong(tmp_path: Path) -> None:
    model = str(saved_bert(tmp_path / "bert"))
    with pytest.raises(Refusal, match=r"^--trials: 0 is refused; write 1 or more"):
        choose_space([*given(model=model), GivenValue("search.trials", 0, "--trials")])


def frame() -> pd.DataFrame:
    return pd.DataFrame({"body": [f"the {n}" for n in range(90)], "verdict": ["good", "bad"] * 45})


def test_a_study_keeps_the_space_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another machine would get another one; what a person gives is compared still."""
    monkeypatch.chdir(tmp_path)
    model = str(saved_bert(tmp_path / "bert"))

    def study(**more: Any) -> krona_tune.Study:
        tasks = {"own": {"data": frame(), "text": "body", "label": "verdict"}}
        return krona_tune.Study(model=model, tasks=tasks, name="first", **more)

    begun = study(seed=3).request
    assert begun.reasons["search.trials"]
    study(seed=3).folder.spec.write_text(dump_spec(begun), encoding="utf-8")
    slow = Speed(maps=1e5, attention=1e5, layer_seconds=1.0, spread=2.0, how="")
    monkeypatch.setattr(auto_space, "speed_for", lambda *_: slow)
    assert study(seed=3).request == load_spec(study(seed=3).folder.spec) == begun
    assert study(seed=4).folder.spec.exists()
    with pytest.raises(Refusal, match=r"seed: the study 'first' was begun with 3, not 4"):
        _ = study(seed=4).request
