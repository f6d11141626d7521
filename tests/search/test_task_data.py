"""Tests on which examples a full training trains, and what is kept of what is odd about them."""

from dataclasses import replace
from pathlib import Path

import pytest

from krona_tune.data.corpus import PARTS
from krona_tune.search.full_training import FullTraining, whole_plan
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.startup.task_data import full_work, prepare_data
from krona_tune.study.request.loader import build_spec
from tests.rows import row
from tests.search.models import saved_bert


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = {
        "model": str(saved_bert(tmp_path / "bert")),
        "data": "mini",
        "tasks": ["cola"],
        "examples": {"train": 40, "validation": 20, "test": 30, "max_length": 32},
        "schedule": {"epochs": 2, "grace_epochs": 1, "reduction": 2},
    }
    return make_plan(build_spec(asked, "x.yaml"), "x.yaml")


def test_all_of_a_miniature_is_no_less_than_the_study_had_of_it(plan: Plan) -> None:
    asked = plan.spec.examples.model_copy(update={"train": {"default": 10, "cola": 600}, "validation": 300})
    large = replace(plan, spec=plan.spec.model_copy(update={"examples": asked}))
    training = FullTraining(of=row("cola", score=0.4), seeds=1, everything=False)
    work = full_work(large, plan.source.location, training)
    assert work.test is not None
    assert (len(work.train), len(work.validation), len(work.test)) == (600, 300, 512)


def test_everything_is_trained_on_without_limits_and_its_schedule_scales(plan: Plan) -> None:
    winner = row("cola", score=0.4)
    sampled = prepare_data(plan, plan.source.location).works["cola"]
    train, everything = (
        full_work(plan, plan.source.location, FullTraining(of=winner, seeds=1, everything=each))
        for each in (False, True)
    )
    assert len(train.train) > len(sampled.train) == 40
    whole = whole_plan(plan, FullTraining(of=winner, seeds=1, everything=True))
    assert len(whole.data_of("cola").train) == len(train.train), "a dry run looks at as many"
    assert train.test is not None
    assert len(everything.train) == len(train.train) + len(train.validation) + len(train.test)
    assert (len(everything.validation), everything.test) == (0, None)
    assert everything.schedule.total_examples == 2 * len(everything.train)


def test_means_decide_in_a_new_study_that_looks_for_a_steady_configuration(plan: Plan) -> None:
    def decide(*, steady: bool, planned: bool) -> bool:
        finals = plan.spec.finalists.model_copy(update={"steady": steady})
        asked = replace(plan, spec=plan.spec.model_copy(update={"finalists": finals}), means_decide=planned)
        return prepare_data(asked, plan.source.location).facts["cola"].means_decide

    assert decide(steady=True, planned=True)
    assert not decide(steady=False, planned=True)
    assert not decide(steady=True, planned=False), "it began before"


def test_what_is_odd_about_the_data_is_kept_with_their_facts(plan: Plan, tmp_path: Path) -> None:
    rows = "".join(f"text {number},{'good' if number % 2 else 'bad'}\n" for number in range(40))
    (tmp_path / "own.csv").write_text("text,label\n" + rows, encoding="utf-8")
    own = {"data": str(tmp_path / "own.csv"), "text": "text", "label": "label"}
    asked = {**plan.spec.plain(), "tasks": {"own": own}}
    prepared = prepare_data(make_plan(build_spec(asked, "x.yaml"), "x.yaml"), plan.source.location)
    (said,) = prepared.facts["own"].doubts
    assert said.startswith("own has only ")
    assert said in prepared.warnings_of("own")


def test_only_what_makes_scores_mean_little_is_kept_and_none_of_the_test_half_without_finals(
    plan: Plan, tmp_path: Path
) -> None:
    rows = [f"text {number},{'good' if number % 2 else 'Good '},{part}" for part in PARTS for number in range(30)]
    (tmp_path / "own.csv").write_text("\n".join(["text,label,part", *rows]) + "\n", encoding="utf-8")
    own = {"data": str(tmp_path / "own.csv"), "text": "text", "label": "label", "split": {"column": "part"}}
    for top, halves in ((1, ["validation", "test", "test"]), (0, ["validation"])):
        asked = {**plan.spec.plain(), "tasks": {"own": own}, "finalists": {"top": top}}
        prepared = prepare_data(make_plan(build_spec(asked, "x.yaml"), "x.yaml"), plan.source.location)
        doubts = prepared.facts["own"].doubts
        assert [each.partition(" examples")[0].split()[-1] for each in doubts] == halves, doubts
        assert any("differ only in upper and lower case" in each for each in prepared.warnings_of("own"))
