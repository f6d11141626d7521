"""Tests what is recommended without a search, and which score is expected of it, or why none is known."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from krona_tune.data.tasks import TASKS
from krona_tune.record.contributed_curves import write_curves
from krona_tune.record.recorded_curves import CONSTANT, HARDLY_LEARNED, LEARNED, SCORED_BY
from krona_tune.refusal import Refusal
from krona_tune.search.planning import recommendation
from krona_tune.search.planning.default_point import default_point
from krona_tune.search.planning.earlier_study import shipped_curves
from krona_tune.search.planning.expected_score import recorded_shares
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.planning.recommendation import Recommendation, recommend_point
from krona_tune.study.formatting import describe_adapter
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.trial import PLACES
from tests.backbone_folders import MINILM, folder_of
from tests.record.curve_files import provenance, rows

BEST = 42
"""The number of the recorded point that is the best on average."""
SPACE: dict[str, Any] = {
    "adapter": {"a_out": "divisors", "a_in": "divisors", "terms": [1, 2], "layers": ["last 3", "last 1"]},
    "training": {"learning_rate": {"low": 1e-4, "high": 3e-2, "log": True}, "batch_size": 32},
}
ROWS = {"train": 300, "validation": 100, "test": 50}


@pytest.fixture
def reviews(tmp_path: Path) -> dict[str, Any]:
    """Writes a task of one's own, of whose validation half three in four have one label."""
    rng, folder = random.Random(0), tmp_path / "reviews"
    folder.mkdir()
    for part, size in ROWS.items():
        texts = [f"{' '.join(rng.choices('abcdefgh', k=9))} {row}" for row in range(size)]
        lines = [f"{text},{'good' if row % 4 else 'bad'}" for row, text in enumerate(texts)]
        (folder / f"{part}.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return {"data": str(folder), "text": "text", "label": "label"}


def planned(model: str, tasks: Any, **more: Any) -> Plan:
    written = {"model": model, "tasks": tasks, "data": "mini", "schedule": {"epochs": 9}, **SPACE, **more}
    return make_plan(build_spec(written, "x.yaml").settled(), "x.yaml")


def unknown(found: Recommendation) -> str:
    [answer] = found.answers
    assert answer.expected is None
    return answer.unknown


def test_the_default_configuration_is_expected_to_score_as_the_recorded_point_on_other_tasks(
    model: str, reviews: dict[str, Any]
) -> None:
    plan = planned(model, {"reviews": {**reviews, "metric": "accuracy"}})
    found = recommend_point(plan)
    assert found.taught
    assert found.point == default_point(plan.space, plan.taught)
    [answer] = found.answers
    assert answer.constant == 0.75
    share = recorded_shares(shipped_curves()).expected(BEST)
    assert answer.expected is not None
    assert answer.expected.score == pytest.approx(0.75 + 0.25 * share.score)
    assert answer.expected.low == pytest.approx(0.75 + 0.25 * share.low)
    assert answer.parameters == plan.space.parameters(found.point) + plan.geometry.head_parameters(2)


def test_a_task_with_recorded_data_is_left_out_of_what_foretells_it(
    model: str, reviews: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(model, {"reviews": {**reviews, "metric": "accuracy"}})
    monkeypatch.setattr(recommendation, "LEARNED", {**LEARNED, "sst2": plan.data_of("reviews").contents})
    [answer] = recommend_point(plan).answers
    share = recorded_shares(shipped_curves(without=["sst2"])).expected(BEST)
    assert answer.expected is not None
    assert answer.expected.score == pytest.approx(0.75 + 0.25 * share.score)


def test_recorded_data_that_were_hardly_learned_foretell_no_score_but_what_was_reached(
    model: str, reviews: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(model, {"reviews": {**reviews, "metric": "accuracy"}})
    contents = plan.data_of("reviews").contents
    monkeypatch.setattr(recommendation, "HARDLY_LEARNED", {**HARDLY_LEARNED, "rte": contents})
    found = recommend_point(plan)
    assert unknown(found) == "the recorded points hardly learned these data"
    recorded = found.answers[0].recorded
    assert recorded is not None
    assert (recorded.points, recorded.examples) == (8, 600)
    assert recorded.score == pytest.approx(0.565, abs=5e-4)


def test_a_recorded_score_is_not_told_beside_one_of_another_metric(
    model: str, reviews: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(model, {"reviews": {**reviews, "metric": "f1"}})
    monkeypatch.setattr(recommendation, "LEARNED", {**LEARNED, "sst2": plan.data_of("reviews").contents})
    assert recommend_point(plan).answers[0].recorded is None


def test_the_metrics_of_the_recorded_tasks_are_theirs() -> None:
    of_glue = SCORED_BY.keys() & TASKS.keys()
    assert SCORED_BY.keys() == LEARNED.keys() | HARDLY_LEARNED.keys()
    assert {name: SCORED_BY[name] for name in of_glue} == {name: TASKS[name].metrics for name in of_glue}


def test_what_trains_it_is_a_request_of_this_one_point(model: str, reviews: dict[str, Any]) -> None:
    found = recommend_point(planned(model, {"reviews": reviews}, search={"trials": 9, "max_params": "5%"}))
    spec = found.trains.spec
    assert not spec.searches
    assert (spec.search.trials, spec.search.early_stopping, spec.finalists.top) == (1, False, 0)
    assert found.trains.space.draw(random.Random(0)) == found.point
    assert build_spec(spec.plain(), "again.yaml") == spec
    assert found.trains.tasks.keys() == {"reviews"}


def test_what_trains_it_places_nothing_where_the_maps_are_named(model: str) -> None:
    named = {"backbone": {"target_modules": ["query"]}, "adapter": {"a_out": [2, 4, 8], "a_in": "divisors"}}
    spec = recommend_point(planned(model, ["rte"], **named)).trains.spec
    assert not {*PLACES} & spec.plain()["adapter"].keys()
    assert "query+value" not in describe_adapter(recommend_point(planned(model, ["rte"], **named)).point)
    assert make_plan(build_spec(spec.plain(), "again.yaml"), "again.yaml").spec == spec


def test_teachers_that_are_too_far_foretell_no_score(model: str, tmp_path: Path, reviews: dict[str, Any]) -> None:
    own = {"reviews": {**reviews, "metric": "accuracy"}}
    shallow = planned(str(folder_of({**MINILM, "num_hidden_layers": 4}, tmp_path / "shallow")), own)
    assert "are of a bert of 384 features and 6 encoder layers, this" in unknown(recommend_point(shallow))
    assert "mini-GLUE is synthetic" in unknown(recommend_point(planned(model, ["rte"])))
    layers = {"adapter": {**SPACE["adapter"], "layers": "all"}}
    assert "has other layers" in unknown(recommend_point(planned(model, own, **layers)))
    slow = {"training": {"learning_rate": {"low": 1e-5, "high": 1e-4, "log": True}}}
    assert "has another step" in unknown(recommend_point(planned(model, own, **slow)))
    few = {"examples": {"train": 200}}
    assert "had 500 to 800 examples, this task has 200" in unknown(recommend_point(planned(model, own, **few)))
    short = {"schedule": {"epochs": 2}}
    assert "4,500 to 7,200 examples, this one sees 600" in unknown(recommend_point(planned(model, own, **short)))
    plan = planned(model, own)
    many = replace(plan.tasks["reviews"], labels=tuple(map(str, range(41))))
    wide = replace(plan, tasks={"reviews": many})
    assert "have at most 20 labels, this one has 41" in unknown(recommend_point(wide))


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("f1", "no validation example has the label 'good', which f1 is about"),
        (["accuracy", "f1"], "no validation example has the label 'good', which f1 is about"),
        ("matthews", "all validation examples have the same label"),
    ],
)
def test_where_a_label_that_the_metric_is_about_can_not_be_right_no_score_is_expected(
    model: str, tmp_path: Path, reviews: dict[str, Any], metric: Any, said: str
) -> None:
    only = tmp_path / "reviews" / "validation.csv"
    only.write_text(only.read_text(encoding="utf-8").replace(",good", ",bad"), encoding="utf-8")
    plan = planned(model, {"reviews": {**reviews, "metric": metric}})
    assert unknown(recommend_point(plan)) == said


def test_a_metric_without_a_best_score_of_one_foretells_no_score(model: str, reviews: dict[str, Any]) -> None:
    plan = planned(model, {"reviews": reviews})
    worse = replace(plan.tasks["reviews"], lower_is_better=("accuracy",))
    assert "no best score is known" in unknown(recommend_point(replace(plan, tasks={"reviews": worse})))


def test_untaught_the_centre_is_recommended_and_no_score_expected(model: str) -> None:
    plan = planned(model, ["cola"], search={"taught": False})
    found = recommend_point(plan)
    assert not found.taught
    assert found.point == default_point(plan.space)
    assert unknown(found).startswith("not taught")


def test_a_point_that_contributed_curves_teach_is_recommended_without_a_score(model: str, tmp_path: Path) -> None:
    write_curves(tmp_path / "theirs.parquet", rows(), provenance())
    plan = planned(model, ["rte"], search={"warm_start": str(tmp_path / "theirs.parquet")})
    found = recommend_point(plan)
    assert found.point["learning_rate"] == pytest.approx(2 * 2e-3), "the scale is half of theirs, the step the same"
    assert unknown(found) == "it is a point of contributed curves, which foretell no score"


def test_a_space_in_which_nothing_fits_is_refused(model: str) -> None:
    plan = planned(model, ["cola"], search={"taught": False})
    with pytest.raises(Refusal, match=r"x\.yaml: adapter: no point near the centre of the space fits; offer more"):
        recommend_point(replace(plan, space=replace(plan.space, limit=1)))


def test_the_constants_are_those_of_the_recorded_tasks() -> None:
    """What learned nothing gives the constant answer, on Newsgroups nearly."""
    shares = recorded_shares(shipped_curves())
    lowest = dict(zip(shares.tasks, abs(shares.shares).min(axis=0), strict=True))
    assert {task for task, share in lowest.items() if share < 1e-9} >= {"reuters", "sst2", "newsgroups"}
    assert set(CONSTANT) == set(LEARNED)
