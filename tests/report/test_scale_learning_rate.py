"""Tests the charts of which knobs mattered, where good adapters are, and what more parameters gain on average."""

from dataclasses import replace

import pytest

from krona_tune.backbones.geometry import Stack
from krona_tune.report.chart import Subject
from krona_tune.report.factor_shapes import factor_shapes
from krona_tune.report.knob_charts import importance, importances, searched_knobs
from krona_tune.report.placement_chart import placement, places_of
from krona_tune.report.score_charts import average_chart, task_front
from krona_tune.report.task_summary import summarise
from krona_tune.study.manifest import ModelFacts
from krona_tune.study.network import Network, network
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import average_front
from tests.record.events import manifest, started
from tests.report.many_trials import crowd
from tests.study.final_rows import row

FACTS = manifest("cola").tasks["cola"]
BERT = Network(width=384, depths={Stack.ENCODER: 6})
T5 = Network(width=768, depths={Stack.ENCODER: 3, Stack.DECODER: 3})


def subject(trials: int, backbone: Network | None = None) -> Subject:
    recorded = crowd(trials)
    return Subject(summary=summarise("cola", recorded.trials, FACTS), recorded=recorded, network=backbone)


def test_the_knob_that_decides_is_found_and_the_others_are_not_told_from_chance() -> None:
    chart = importance(subject(300))
    assert chart is not None
    bars, chance = chart.figure.data
    assert bars.y[-1] == "learning_rate"
    assert bars.x[-1] > 10 * chance.x[-1]
    assert all(found < 3 * by_chance for found, by_chance in zip(bars.x[:-1], chance.x[:-1], strict=True))


def test_of_few_trials_nothing_is_said() -> None:
    assert importance(subject(11)) is None
    assert importance(subject(12)) is not None


def test_only_knobs_that_every_trial_has_and_that_differ_are_asked_about() -> None:
    params = [{"scale": 1.0, "rank": 2, "method": "lora"}, {"scale": 2.0, "method": "lora"}]
    assert searched_knobs(params) == {"scale": [1.0, 2.0]}
    assert searched_knobs([]) == {}


def test_a_higher_score_is_the_better_one() -> None:
    scores = [0.1 * number for number in range(20)]
    [found] = importances({"side": ["low"] * 15 + ["high"] * 5, "other": ["x", "y"] * 10}, [scores])
    assert found["side"] > found["other"]


def test_the_picture_fills_the_sites_of_the_best_trial() -> None:
    trial = started(1, roles="query+output", layers="last 2")
    filled = {("encoder", 4), ("encoder", 5)}
    assert {(stack, layer) for stack, layer, _ in places_of(trial, BERT.bare())} == filled
    assert {role for *_, role in places_of(trial, BERT.bare())} == {"query", "output"}
    chart = placement(subject(40, BERT))
    assert chart is not None
    [sites] = chart.figure.data
    assert len(sites.x) == 6 * 7
    best = subject(40).summary.ranked[0].trial
    assert list(sites.marker.color).count("#3f83c8") == len(places_of(best, BERT.bare()))
    assert "of the best 10, in" in sites.text[0]
    assert placement(subject(40)) is None


def test_the_decoder_stands_beside_the_encoder_and_has_cross_attention() -> None:
    chart = placement(subject(5, T5))
    assert chart is not None
    [sites] = chart.figure.data
    assert len(sites.x) == 3 * 7 + 3 * 11
    assert max(sites.x) == 6
    assert [note.text for note in chart.figure.layout.annotations] == ["encoder", "decoder"]


@pytest.mark.parametrize("method", ["full", "nonsense"])
def test_a_method_that_stands_nowhere_fills_nothing(method: str) -> None:
    trial = replace(started(1), params={"method": method, "learning_rate": 0.003})
    assert places_of(trial, BERT.bare()) == frozenset()


def test_a_known_width_turns_equal_products_into_parameters() -> None:
    chart = factor_shapes(subject(200, BERT))
    assert chart is not None
    trace, *lines = chart.figure.data
    products = [2 ** (line.x[1] + line.y[1]) for line in lines]
    told = [float(line.text[1].replace(",", "")) for line in lines]
    assert told == pytest.approx([product + 384 * 384 / product for product in products])
    assert list(chart.figure.layout.xaxis.ticktext) == ["8", "12", "16", "24", "32", "48"]
    assert len(lines) <= 9
    assert len(trace.x) == 6


def test_the_network_is_what_the_manifest_tells_of_it() -> None:
    model = manifest("cola").model
    assert network(model) is None
    depths = {Stack.ENCODER: 7, Stack.DECODER: 5}
    told = ModelFacts.model_validate_json(model.model_copy(update={"width": 512, "depths": depths}).model_dump_json())
    assert network(told) == Network(width=512, depths=depths)


def sized(task: str, *points: tuple[int, float]) -> list[TrialResult]:
    return [
        row(f"{number:03d}", "search", score, task=task, trainable_parameters=size)
        for number, (size, score) in enumerate(points)
    ]


def test_the_averages_front_takes_each_tasks_best_that_fits() -> None:
    cola = summarise("cola", sized("cola", (100, 0.2), (300, 0.5), (250, 0.1)), FACTS)
    rte = summarise("rte", sized("rte", (150, 0.6), (400, 0.8)), FACTS)
    assert average_front([task_front(cola), task_front(rte)]) == (
        (150, pytest.approx(0.4)),
        (300, pytest.approx(0.55)),
        (400, pytest.approx(0.65)),
    )
    assert average_front([task_front(summarise("mrpc", [], FACTS))]) == ()
    chart = average_chart([cola, rte, summarise("mrpc", [], FACTS)])
    assert chart is not None
    assert list(chart.figure.data[0].x) == [150, 300, 400]
    assert average_chart([cola]) is None
