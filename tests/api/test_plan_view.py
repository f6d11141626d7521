"""Tests the lines of a plan."""

import re
from pathlib import Path

import pandas as pd
import psutil
import pytest

from krona_tune import Study
from krona_tune.api.plan_view import PlanView, format_label_share, plan_lines, written_domain
from krona_tune.search.planning.plan import make_plan
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.study_spec import StudySpec
from tests.data.own_tickets import rows, write_csv
from tests.search.models import saved_bert


@pytest.mark.parametrize(("load", "line"), [(7.9, None), (8.6, "busy, 9 processes want its 4 cores: all takes longer")])
def test_a_plan_says_when_the_machine_is_busy(
    monkeypatch: pytest.MonkeyPatch, model: str, load: float, line: str | None
) -> None:
    monkeypatch.setattr(psutil, "getloadavg", lambda: (load, 90.0, 90.0))
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    plan = make_plan(StudySpec.model_validate({"model": model, "tasks": ["rte"], "data": "mini"}), "here")
    assert plan_lines(plan, "").get("machine") == (line and f"{line}, also Ray's start")


def test_a_plan_says_how_many_examples_are_used_and_what_is_odd_about_them(model: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tickets.csv", rows(200))
    task = {"data": str(path), "text": "body", "label": "queue"}
    asked = {"model": model, "tasks": {"tickets": task}, "data": "mini", "examples": {"train": 100, "test": 9}}
    lines = PlanView(make_plan(build_spec(asked, "x.yaml"), "here"), StudyFolder(tmp_path / "first")).lines
    assert ": 100 of 140 train, 30 validation, 9 of 30 test; 3 labels: " in lines["tickets"]
    odd = "tickets has only 9 test examples: with so few, scores are mostly chance"
    assert lines["warnings"].startswith(f"{odd}; --model: ")  # a model without a tokenizer, by which a study is refused


def test_a_plan_says_what_is_cut_and_what_the_study_takes(tmp_path: Path) -> None:
    texts = [f"{number} " + "long " * 9 * (number % 2) for number in range(100)]
    frame = pd.DataFrame({"body": texts, "queue": ["one", "one", "two", "two"] * 25})
    task = {"data": frame, "text": "body", "label": "queue"}
    study = Study(tasks={"tickets": task}, storage=tmp_path, settings={"examples.max_length": 8}, trials=1)
    lines = study.plan().lines
    assert re.fullmatch(r"tickets: 4\d of 85 examples are longer than 8 tokens and are cut", lines["cut"])
    assert "% of the examples of tickets are cut to 8 tokens" in lines["warnings"]
    assert {"time", "hours", "memory", "disk"} <= lines.keys()


@pytest.mark.parametrize(
    ("schedule", "line"),
    [
        ({"epochs": 6, "grace_epochs": 2}, "judged from 2 to 6 epochs, each 3 times further"),
        ({"epochs": 6, "grace_epochs": 9}, "judged once, after 6 epochs"),
        ({"epochs": 1, "grace_epochs": 1}, "judged once, after 1 epoch"),
        ({"epochs": 6, "grace_epochs": {"default": 1, "rte": 6}}, "judged once, after 6 epochs"),
        (
            {"epochs": {"default": 6, "sst2": 8}, "grace_epochs": {"default": 1, "rte": 2}},
            "judged from 2 to 6 epochs, each 3 times further",
        ),
    ],
)
def test_a_plan_says_when_trials_are_judged(model: str, schedule: dict[str, object], line: str) -> None:
    asked = {"model": model, "tasks": ["rte"], "data": "mini", "schedule": schedule}
    assert plan_lines(make_plan(StudySpec.model_validate(asked), "here"), "")["rungs"] == line


def test_a_plan_says_which_tasks_are_trained_longer(model: str) -> None:
    schedule = {"epochs": {"default": 6, "rte": 8, "sst2": 9}, "grace_epochs": 2}
    asked = {"model": model, "tasks": ["rte", "cola", "mrpc"], "data": "mini", "schedule": schedule}
    line = "judged from 2 to 6 (rte 8) epochs, each 3 times further"
    assert plan_lines(make_plan(StudySpec.model_validate(asked), "here"), "")["rungs"] == line


@pytest.mark.parametrize(
    ("tasks", "line"),
    [
        (["rte"], "6 epochs on each task, no configuration stopped"),
        (["rte", "cola", "mrpc"], "6 epochs on each task, configurations stopped between tasks only: after 1, 2 of 3"),
    ],
)
def test_a_plan_says_that_shared_configurations_are_stopped_between_tasks(
    model: str, tasks: list[str], line: str
) -> None:
    schedule, search = {"epochs": 6, "reduction": 2}, {"shared": True}
    asked = {"model": model, "tasks": tasks, "data": "mini", "schedule": schedule, "search": search}
    spec = StudySpec.model_validate({**asked, "finalists": {"top": 1}})
    assert plan_lines(make_plan(spec, "here"), "")["rungs"] == line


@pytest.mark.parametrize(
    ("adapter", "taught", "line"),
    [
        ({"method": "krona", "a_out": 4, "a_in": [2, 4]}, 2, "2 of a task's trials are points near the best"),
        ({"method": "lora", "rank": [2, 4]}, 0, "nothing: no point of the recorded curves is near this space"),
    ],
)
def test_a_plan_counts_the_taught_trials_for_which_there_are_points(
    model: str, adapter: dict[str, object], taught: int, line: str
) -> None:
    asked = {"model": model, "tasks": ["rte"], "data": "mini", "adapter": adapter, "search": {"taught": True}}
    plan = make_plan(StudySpec.model_validate(asked), "here")
    assert (plan.spec.search.taught_trials, plan.planned.taught) == (6, taught)
    assert plan_lines(plan, "")["first"].startswith(line)


@pytest.mark.parametrize(
    ("tiny", "lost"),
    [
        (False, "in replays of recorded tasks that the others taught this lost .30, .55 and .71 of"),
        (True, "on three other backbones and tasks that taught nothing the first lost .003 to .023 of score"),
    ],
)
def test_a_plan_says_what_the_curves_lost_on_backbones_like_its_own(
    model: str, tmp_path: Path, tiny: bool, lost: str
) -> None:
    name = str(saved_bert(tmp_path / "bert")) if tiny else model
    adapter = {"method": "krona", "a_out": 4, "a_in": [2, 4]}
    asked = {"model": name, "tasks": ["rte"], "data": "mini", "adapter": adapter, "examples": {"max_length": 32}}
    plan = make_plan(StudySpec.model_validate({**asked, "search": {"taught": True}}), "here")
    assert lost in " ".join(plan_lines(plan, "")["first"].split())


def test_where_every_size_counts_the_sizes_of_the_taught_points_are_said(model: str) -> None:
    asked = {"model": model, "tasks": ["rte"], "data": "mini", "adapter": {"a_out": "divisors", "a_in": "divisors"}}
    plan = make_plan(StudySpec.model_validate({**asked, "search": {"taught": True, "objective": "pareto"}}), "here")
    assert plan.taught
    sizes = [plan.space.parameters(point) for point in plan.taught.points]
    line = plan_lines(plan, "")["first"]
    assert "points near the best at each size of 4 recorded tasks" in line
    assert line.endswith(f"of {min(sizes):,} to {max(sizes):,} adapter parameters")


def test_the_sizes_of_methods_leave_out_the_head_which_the_plan_says(model: str) -> None:
    asked = {"model": model, "tasks": ["rte"], "data": "mini", "adapter": {"method": ["lora", "bitfit"], "rank": 2}}
    plan = make_plan(StudySpec.model_validate(asked), "here")
    [size] = plan.space.of("lora").sizes()
    assert f"; adapter parameters: lora {size:,}" in " ".join(plan_lines(plan, "")["methods"].split())


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "0.0%"), (1e-5, "<0.1%"), (0.002, "0.2%"), (0.99999, ">99.9%"), (1.0, "100.0%")]
)
def test_a_share_of_some_examples_is_neither_none_nor_all(share: float, said: str) -> None:
    assert format_label_share(share) == said


@pytest.mark.parametrize(
    ("knob", "domain", "said"),
    [
        ("batch_size", {"low": 2, "high": 8, "step": 2}, "2…8 in steps of 2"),
        ("batch_size", {"low": 2, "high": 8}, "2…8"),
        ("learning_rate", {"low": 0.1, "high": 8, "log": True}, "0.1…8 log"),
        ("batch_size", [1, 2], "{1, 2}"),
    ],
)
def test_a_domain_is_written_with_its_steps(knob: str, domain: object, said: str) -> None:
    spec = build_spec({"model": "m", "training": {knob: domain}}, "x.yaml")
    assert written_domain(spec.training[knob]) == said
