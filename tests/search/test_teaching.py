"""Tests what the recorded curves teach a space: points near the best ones, a recorded task's own before all others."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from krona_tune.record.contributed_curves import write_curves
from krona_tune.record.recorded_curves import LEARNED
from krona_tune.refusal import Refusal
from krona_tune.search.planning.earlier_study import (
    EarlierStudy,
    contributed_curves,
    points_by_task,
    read_earlier,
    shipped_curves,
)
from krona_tune.search.planning.nearest_point import RateRule, nearest_point
from krona_tune.search.planning.teaching import by_mean_score, read_teaching
from krona_tune.study.result import Status
from tests.record.curve_files import provenance, rows
from tests.rows import row
from tests.search.conftest import space

SHAPES = {"a_out": "divisors", "a_in": "divisors", "terms": [1, 2], "layers": ["all", "last 1"]}
SPACE = space("bert", SHAPES, training={"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}})


def test_points_are_ordered_by_their_mean_over_tasks_in_deviations() -> None:
    scores = {"wide": {0: 0.1, 1: 0.9, 2: 0.5, 3: None}, "narrow": {0: 0.504, 1: 0.501, 2: 0.503, 3: 0.5}}
    found = [
        row(task, number, score, status=Status.COMPLETED if score else Status.DIVERGED, params={"scale": number})
        for task, by_number in scores.items()
        for number, score in by_number.items()
    ]
    design = EarlierStudy(name="d", rows=tuple(found), reports=(), budgets=dict.fromkeys(scores, 9), geometry=None)
    assert [point["scale"] for point in by_mean_score(design)] == [2, 1, 0, 3]


def test_the_first_recorded_points_are_good_on_every_task() -> None:
    curves = shipped_curves()
    best = by_mean_score(curves)
    ranks = {task: [points.index(point) for point in best[:5]] for task, points in points_by_task(curves.rows).items()}
    assert all(fmean(found) < 40 for found in ranks.values())


@pytest.mark.parametrize("known", [False, True])
def test_what_is_taught_fits_the_space_and_begins_with_a_recorded_tasks_own(known: bool) -> None:
    taught = read_teaching(SPACE, without=["sst2"])
    assert set(taught.tasks) == set(LEARNED) - {"sst2"}
    assert all(SPACE.holds(point) for point in taught.first())
    assert len({SPACE.meaning(point) for point in taught.points}) == len(taught.points) > 10
    own = taught.own[LEARNED["stsb"]]
    assert 1 <= len(own) <= 3
    first = taught.first(LEARNED["stsb"] if known else LEARNED["sst2"])
    assert first == ((*own, *taught.points) if known else taught.points)


def test_of_every_size_the_front_of_score_and_parameters_is_taught_from_the_largest_down() -> None:
    best, front = read_teaching(SPACE), read_teaching(SPACE, every_size=True)
    assert front.points[0] == best.points[0]
    for points in (front.points, *front.own.values()):
        sizes = [SPACE.parameters(point) for point in points]
        assert sizes == sorted(set(sizes), reverse=True)
    least = SPACE.parameters(front.points[-1])
    curves = shipped_curves()
    near = [nearest_point(SPACE, point, curves.geometry) for point in by_mean_score(curves) if curves.geometry]
    assert all(SPACE.parameters(point) >= least for point in near if point)
    assert len(front.points) > 1
    assert {contents: points[0] for contents, points in front.own.items()} == {
        contents: points[0] for contents, points in best.own.items()
    }


def test_shorter_trainings_are_taught_greater_learning_rates() -> None:
    rates = {"low": 1e-6, "high": 1.0, "log": True}
    wide = space("bert", {"layers": ["all", "last 1"]}, training={"learning_rate": rates})
    budget = fmean(shipped_curves().budgets.values())
    plain, long, short = (read_teaching(wide, rule=RateRule(seen=seen)) for seen in (None, budget * 9, budget / 9))
    assert (plain.rule.seen, short.rule.seen) == (None, budget / 9)
    assert long.points[0] == plain.points[0]
    assert short.points[0]["learning_rate"] == pytest.approx(3**0.5 * plain.points[0]["learning_rate"])
    assert {**short.points[0], "learning_rate": 0.0} == {**plain.points[0], "learning_rate": 0.0}


def test_a_space_of_another_method_is_taught_nothing() -> None:
    taught = read_teaching(space("bert", {"method": "lora", "rank": [1, 2]}))
    assert not taught
    assert taught.first() == ()


def test_contributed_curves_teach_before_the_packages_and_know_their_own_data(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    write_curves(path, rows((0.2, 0.5, 0.4, 0.1, 0.1, 0.1)), provenance())
    theirs, plain = contributed_curves(str(path)), read_teaching(SPACE)
    taught = read_teaching(SPACE, contributed=[theirs])
    assert theirs.geometry is not None
    best = [params for params in by_mean_score(theirs) if params["learning_rate"] in (2e-3, 3e-3)]
    assert [params["learning_rate"] for params in best] == [2e-3, 3e-3]
    near = [nearest_point(SPACE, params, theirs.geometry) for params in best]
    assert [taught.points[at] for at in (0, 2)] == near
    assert [taught.points[at] for at in (1, 3, 4, 5)] == list(plain.points[:4]), "of six points two are good"
    assert taught.tasks == tuple(sorted({*LEARNED, "cola"}))
    assert taught.first("c" * 64)[0] == near[0]
    assert taught.own.keys() == plain.own.keys() | {"c" * 64}


def test_contributed_tasks_without_a_gain_over_the_constant_answer_teach_nothing(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    write_curves(path, rows((0.0, 0.0, 0.0)), provenance())
    taught, plain = read_teaching(SPACE, contributed=[contributed_curves(str(path))]), read_teaching(SPACE)
    assert taught == replace(plain, unlearned=("theirs.parquet/cola",))
    with pytest.raises(Refusal, match=r"no trial of .* scores above the constant answer; leave it out"):
        read_earlier(str(path), SPACE)  # which also teaches a study's model, and what TPE tries


def test_a_file_whose_point_no_adapter_can_have_is_refused(tmp_path: Path) -> None:
    write_curves(tmp_path / "odd.parquet", rows(scale=-1.0), provenance())
    with pytest.raises(Refusal, match=r"odd\.parquet: the point 0 can't be trained: adapter\.scale; write the file"):
        contributed_curves(str(tmp_path / "odd.parquet"))
