"""Tests what is said of a recommendation whose score is known, in a terminal and in a notebook."""

import random
from dataclasses import replace

import pytest

from krona_tune.api.recommendation_view import RecommendationView
from krona_tune.refusal import Refusal
from krona_tune.search.planning.expected_score import ExpectedScore
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.planning.recommendation import Probe, Recommendation, RecordedBest, TaskAnswer, recommend_point
from krona_tune.search.startup.slots import Slots
from krona_tune.study.request.loader import build_spec

KNOWN = TaskAnswer(
    task="rte", parameters=12_345, expected=ExpectedScore(low=0.61, score=0.74, high=0.93), constant=0.53
)
UNKNOWN = TaskAnswer(task="cola", parameters=12_345, unknown="the recorded models write")


@pytest.fixture
def found(model: str) -> Recommendation:
    """Returns a recommendation for two tasks, of which one has an expected score."""
    asked = build_spec({"model": model, "tasks": ["rte", "cola"], "data": "mini"}, "x.yaml")
    return replace(recommend_point(make_plan(asked.settled(), "x.yaml")), answers=(KNOWN, UNKNOWN))


def test_a_known_score_is_said_with_its_interval_and_what_it_needs(found: Recommendation) -> None:
    lines = RecommendationView(found).lines
    assert lines["rte"] == (
        "4 of 8 recorded tasks were learned; if this one is: validation score 0.740, nine times in ten 0.610 to 0.930; "
        "if not: about the constant answer's 0.530; 12,345 trained parameters"
    )
    assert lines["cola"] == "score not known: the recorded models write; 12,345 trained parameters"
    assert "time" not in lines, "without slots nothing is measured"


def test_of_recorded_data_it_says_what_was_reached(found: Recommendation) -> None:
    best = RecordedBest(score=0.565, points=8, examples=600)
    hardly = replace(UNKNOWN, constant=0.471, recorded=best, unknown="hardly learned")
    lines = RecommendationView(replace(found, answers=(replace(KNOWN, recorded=best), hardly))).lines
    reached = "the best of 8 recorded points has 0.565 after 600 of its training examples, the constant answer"
    foretold = "validation score 0.740, nine times in ten 0.610 to 0.930"
    assert lines["rte"] == f"{foretold}; {reached} 0.530; 12,345 trained parameters"
    assert lines["cola"] == f"score not known: hardly learned; {reached} 0.471; 12,345 trained parameters"


def test_after_a_probe_it_says_what_was_seen_before_what_is_foretold(found: Recommendation) -> None:
    learned = replace(KNOWN, probe=Probe(constant=0.53, examples=90, seconds=12.0, score=0.7))
    flat = replace(UNKNOWN, probe=Probe(constant=0.0, examples=90, seconds=3.0, score=0.0, share=0.5))
    failed = replace(
        UNKNOWN,
        task="stsb",
        probe=Probe(constant=0.0, examples=90, seconds=3.0, error="x"),
        unknown="its training failed",
    )
    view = RecommendationView(replace(found, answers=(learned, flat, failed)))
    assert view.lines["rte"] == (
        "after 33% of its training, 12 s, 0.700; the constant answer 0.530; "
        "at its end 0.740, in most cases 0.610 to 0.930; 12,345 trained parameters"
    )
    assert view.lines["cola"] == (
        "after 50% of its training, 3 s, 0.000; nothing learned yet: the constant answer 0.000; "
        "score not known: the recorded models write; 12,345 trained parameters"
    )
    assert view.lines["stsb"] == "score not known: its training failed; 12,345 trained parameters"
    written = {"constant": 0.53, "examples": 90, "seconds": 12.0, "share": 1 / 3, "score": 0.7, "error": ""}
    assert view.plain["tasks"]["rte"]["probe"] == written
    assert view.frame.probe.tolist()[:2] == [0.7, 0.0]
    two_at_once = Slots(cpus=1, gpus=0, count=2)
    seen = replace(view, found=replace(found, answers=(learned, flat)), slots=two_at_once)
    assert seen.by_probe == "about 21 s to train it, by the part that was trained", "half of 36 s and 6 s"
    assert replace(view, slots=two_at_once).by_probe == "", "one of them failed"


def test_a_probe_is_refused_where_a_study_joins_a_cluster(found: Recommendation) -> None:
    with pytest.raises(Refusal, match="it trains on this machine"):
        RecommendationView(found).probed()


def test_a_notebook_shows_the_same_lines_and_a_frame_with_a_row_a_task(found: Recommendation) -> None:
    view = RecommendationView(found)
    assert "0.740" in view._repr_html_()
    assert repr(view).splitlines()[0].startswith("use     krona")
    assert view.frame.loc["rte", ["score", "low", "high", "constant"]].tolist() == [0.74, 0.61, 0.93, 0.53]
    assert list(view.frame) == ["parameters", "constant", "probe", "score", "low", "high", "unknown"]
    assert view.frame.score.isna().tolist() == [False, True]
    assert RecommendationView(replace(found, answers=found.answers[1:])).frame.score.dtype == float
    assert view.plain["tasks"]["rte"]["expected"] == {"score": 0.74, "low": 0.61, "high": 0.93}


def test_its_request_trains_this_point(found: Recommendation) -> None:
    view = RecommendationView(found)
    spec = build_spec(view.request, "again.yaml")
    assert make_plan(spec, "again.yaml").space.draw(random.Random(1)) == found.point
