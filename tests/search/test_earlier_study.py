"""Tests that a study learns from earlier ones: TPE tries their best points, a model of the study uses all trials."""

import random
from dataclasses import replace
from math import log10
from pathlib import Path
from typing import Any

import pytest

from krona_tune.backbones.geometry import Stack
from krona_tune.record.contributed_curves import write_curves
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.recorded_curves import LEARNED
from krona_tune.refusal import Refusal
from krona_tune.search.planning.earlier_study import read_earlier, shipped_curves
from krona_tune.search.searchers.history import coordinates
from krona_tune.search.searchers.proposal import adopt_points, earlier_points
from krona_tune.search.searchers.surrogate import TransferSurrogate
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.search_spec import RECORDED_CURVES
from krona_tune.study.result import Status, TrialResult
from tests.record.curve_files import provenance, rows
from tests.record.events import RUNGS, ended, manifest, report, started
from tests.rows import row
from tests.search.conftest import space

SPACE = space("bert", {"a_out": [4, 6], "a_in": 6, "scale": {"low": 1.0, "high": 8.0}, "roles": ["query", "value"]})
TASKS = ("cola", "rte", "stsb")


def tried(task: str, number: int, score: float | None, status: Status = Status.COMPLETED) -> TrialResult:
    params = {"method": "krona", "a_out": 4, "a_in": 6, "scale": 1.0 + number, "roles": "value"}
    return row(task, number, score, status=status, params=params)


def scales(points: Any) -> list[float]:
    return [point["scale"] for point in points]


def test_an_earlier_study_is_tried_first_its_own_task_before_the_others() -> None:
    before = [
        tried("rte", 0, 0.6),
        tried("rte", 1, 0.8),
        tried("rte", 2, 0.9, Status.STOPPED_EARLY),
        tried("rte", 3, float("nan")),
        tried("rte", 4, 0.7),
        tried("rte", 5, 0.5),
        tried("cola", 6, 0.3),
        tried("cola", 7, 0.2),
    ]
    earlier = earlier_points(before, TASKS)
    assert {task: scales(points) for task, points in earlier.items()} == {
        "rte": [2.0, 5.0, 1.0, 7.0],
        "cola": [7.0, 8.0, 2.0],
        "stsb": [2.0, 7.0],
    }
    twice_and_one_beyond = [*earlier["stsb"], *earlier["stsb"], {**earlier["stsb"][0], "scale": 9.0}]
    assert scales(each.point for each in adopt_points(SPACE, twice_and_one_beyond)) == [2.0, 7.0]


def test_a_point_is_adopted_with_the_values_that_are_fixed_here_and_only_where_the_others_can_be_drawn() -> None:
    adopted = SPACE.adopted({"method": "krona", "a_out": 6, "a_in": 2, "scale": 3.5, "roles": "query"})
    assert adopted
    assert (adopted["a_out"], adopted["a_in"], adopted["scale"]) == (6, 6, 3.5)
    assert adopted["learning_rate"] == 3e-3
    other = {"method": "krona", "a_out": 6, "a_in": 2, "scale": 3.5, "roles": "query"}
    for change in ({"a_out": 12}, {"scale": 9.0}, {"roles": "output"}, {"method": "krona_b"}, {"scale": None}):
        assert SPACE.adopted({**other, **change}) is None


MODELLED = space(
    "bert", {"a_out": [2, 4], "a_in": [2, 4, 6], "roles": ["query", "query+value"]},
    training={"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}},
)  # fmt: skip


def recorded(folder: Path, *, trials: int = 24, width: int = 768, **params: Any) -> StudyFolder:
    """Writes a study of one task on a wider backbone: the score depends on the learning rate, the best is 1e-3."""
    folder.mkdir()
    study = StudyFolder(folder)
    whole = manifest("cola")
    facts = whole.model.model_copy(update={"width": width, "depths": {Stack.ENCODER: 6}, "parameters": 10**8})
    whole.model_copy(update={"model": facts}).write(study.manifest)
    sink, rng = ParquetSink(study.results), random.Random(0)
    for number in range(trials):
        rate = 10 ** rng.uniform(-5, -1)
        trial = started(number, learning_rate=rate, roles="query", **params)
        status = Status.DIVERGED if number == 3 else Status.COMPLETED
        reports = [report(trial, rung, -abs(log10(rate) + 3) - 0.1 * (2 - rung)) for rung in range(3)]
        sink.trial_started(trial)
        for each in reports:
            sink.reported(each)
        sink.trial_ended(ended(trial, status, reports))
    sink.study_ended([])
    return study


def test_a_model_learns_from_another_backbones_trials_from_the_first_trial_on(tmp_path: Path) -> None:
    earlier = read_earlier(str(recorded(tmp_path / "earlier").root), MODELLED)
    assert len(earlier.rows) == 24
    assert earlier.budgets == {"cola": RUNGS[-1]}
    assert earlier.geometry is not None
    surrogate = TransferSurrogate(MODELLED, {"rte": 100}, 1, [earlier])
    assert len(surrogate.history.trials()) == surrogate.history.known == 24
    first = [next(surrogate.suggest("rte", number)) for number in (0, 1, 2)]
    assert {each.origin.proposed_by for each in first} == {"study model"}
    assert max(abs(log10(each.point["learning_rate"]) + 3) for each in first) < 0.8
    assert next(TransferSurrogate(MODELLED, {"rte": 100}, 1).suggest("rte", 0)).origin.proposed_by == "even draw"


def test_the_best_point_of_an_earlier_study_is_a_candidate_and_on_the_same_task_the_first(tmp_path: Path) -> None:
    earlier = read_earlier(str(recorded(tmp_path / "earlier", a_out=4, a_in=6).root), MODELLED)
    best = min(earlier.rows, key=lambda row: abs(log10(row.params["learning_rate"]) + 3)).params
    candidates = [each.point for each in TransferSurrogate(MODELLED, {"rte": 100}, 1, [earlier]).suggest("rte", 0)]
    assert MODELLED.adopted(best) in candidates
    assert candidates[0] != MODELLED.adopted(best), "another task's best has no precedence"
    first = next(TransferSurrogate(MODELLED, {"cola": 100}, 1, [earlier]).suggest("cola", 0))
    assert (first.point, first.origin.proposed_by) == (MODELLED.adopted(best), "earlier study")
    few = replace(earlier, rows=tuple(row for row in earlier.rows if row.params == best), reports=())
    for number in (0, 1):
        first = next(TransferSurrogate(MODELLED, {"rte": 100}, 1, [few]).suggest("rte", number))
        assert (first.point, first.origin.proposed_by) == (MODELLED.adopted(best), "earlier study")
    better = replace(few.rows[0], task="mrpc", trial_id="mrpc-000", score=9.0, params={**best, "learning_rate": 1e-2})
    both = replace(few, rows=(better, *few.rows), budgets={"cola": 100, "mrpc": 100})
    of_cola = TransferSurrogate(MODELLED, {"cola": 100}, 1, [both]).suggest("cola", 0)
    assert [next(of_cola).point["learning_rate"] for _ in range(2)] == [best["learning_rate"], 1e-2]
    rates = [point["learning_rate"] for point in candidates]
    assert rates.count(best["learning_rate"]) > 20, "candidates that change other knobs of it"


def test_sizes_are_shares_so_that_they_mean_the_same_on_a_wider_backbone(tmp_path: Path) -> None:
    earlier = read_earlier(str(recorded(tmp_path / "earlier", a_out=24, a_in=24).root), MODELLED)
    wide = coordinates(MODELLED, earlier.rows[0].params, earlier.geometry)
    own = MODELLED.draw(random.Random(0)) | {"roles": "query"}
    here = coordinates(MODELLED, own)
    assert wide["sites"] == pytest.approx(here["sites"], abs=0.3)
    assert 0 < wide["rank"] <= 1
    assert wide["parameters"] < 0


def test_trials_that_fit_no_map_of_their_backbone_are_left_out(tmp_path: Path) -> None:
    earlier = read_earlier(str(recorded(tmp_path / "earlier", width=50).root), MODELLED)
    assert TransferSurrogate(MODELLED, {"rte": 100}, 1, [earlier]).history.trials() == []
    unknown = replace(earlier, geometry=None, rows=earlier.rows[:2])
    assert len(TransferSurrogate(MODELLED, {"rte": 100}, 1, [unknown]).history.trials()) == 0


def test_the_recorded_curves_are_an_earlier_study_of_every_task() -> None:
    earlier = read_earlier(RECORDED_CURVES, MODELLED)
    tasks = set(LEARNED)
    assert {row.task for row in earlier.rows} == earlier.budgets.keys() == tasks
    assert all(row.finished and row.params["method"] == "krona" for row in earlier.rows)
    assert len(earlier.reports) == 3 * len(earlier.rows)
    assert max(earlier.budgets.values()) == max(report.examples for report in earlier.reports)
    surrogate = TransferSurrogate(MODELLED, {"rte": 100}, 1, [earlier])
    assert surrogate.history.known == len(earlier.rows)
    assert next(surrogate.suggest("rte", 0)).origin.proposed_by == "study model"
    assert {row.task for row in shipped_curves(without={"sst2"}).rows} == tasks - {"sst2"}
    with pytest.raises(Refusal, match="recorded-curves has no trial of lora; its methods: krona"):
        read_earlier(RECORDED_CURVES, space("bert", {"method": "lora", "rank": [1, 2]}))


def test_what_a_study_can_not_learn_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"--warm-start: no study with results in .*nowhere; name a study's folder"):
        read_earlier(str(tmp_path / "nowhere"), MODELLED)
    study = recorded(tmp_path / "earlier", trials=2)
    lora = space("bert", {"method": "lora", "rank": [1, 2]})
    with pytest.raises(
        Refusal, match=r"has no trial of lora; its methods: krona; leave it out, or name a study of the"
    ):
        read_earlier(str(study.root), lora)


def test_two_earlier_studies_of_one_name_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, two = (read_earlier(str(recorded(tmp_path / at).root), MODELLED) for at in ("earlier", "other/earlier"))
    assert one.name == two.name
    assert len(TransferSurrogate(MODELLED, {"rte": 100}, 1, [one, two]).history.trials()) == 48


def test_who_learns_from_earlier_studies_uses_the_model_unless_another_sampler_is_named() -> None:
    def asked(**search: Any) -> tuple[str, str]:
        found = build_spec({"model": "m", "search": search}, "x.yaml")
        assert build_spec(found.plain(), "study.yaml") == found
        return found.search.sampler, found.search.proposes_by

    assert asked() == asked(sampler="tpe", warm_start="a") == ("tpe", "tpe")
    assert asked(warm_start="a") == ("study_model", "study_model")
    assert asked(warm_start="a", per_method=True) == ("study_model", "tpe")
    assert asked(warm_start="a", sampler="random") == ("random", "random")
    assert asked(warm_start=["a.parquet", "a"]) == ("study_model", "study_model")


def test_files_of_curves_alone_teach_and_beside_anything_else_are_learned_from() -> None:
    def asked(**search: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
        settled = build_spec({"model": "m", "search": search}, "x.yaml").settled()
        assert build_spec(settled.plain(), "study.yaml").settled() == settled
        return settled.search.teachers, settled.search.learns_from

    both = ["a.parquet", "b.parquet"]
    assert asked(warm_start=both) == (tuple(both), ())
    assert asked(warm_start=["a.parquet", "b"]) == ((), ("a.parquet", "b"))
    assert asked(warm_start=["a.parquet", RECORDED_CURVES]) == ((), ("a.parquet", RECORDED_CURVES))
    assert asked(warm_start="a.parquet", sampler="tpe") == asked(warm_start="a.parquet", per_method=True)
    assert asked(warm_start="a.parquet", sampler="tpe") == ((), ("a.parquet",))
    assert asked() == ((), ())


def test_a_model_learns_from_contributed_curves_too(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    write_curves(path, rows((0.1, 0.5, 0.2, 0.3, 0.4, 0.2, 0.3)), provenance())
    earlier = read_earlier(str(path), MODELLED)
    assert len(earlier.rows) == 7
    surrogate = TransferSurrogate(MODELLED, {"rte": 100}, 1, [earlier])
    assert surrogate.history.known == 7
    assert next(surrogate.suggest("rte", 0)).origin.proposed_by == "study model"


def test_one_study_or_several_are_written_as_before() -> None:
    def written(value: Any) -> Any:
        asked = build_spec({"model": "m", "search": {"warm_start": value}}, "x.yaml")
        return asked.search.warm_start, asked.plain()["search"].get("warm_start")

    assert written("a") == (("a",), "a")
    assert written(["a", "b"]) == (("a", "b"), ["a", "b"])
    assert written(None) == (None, None)
