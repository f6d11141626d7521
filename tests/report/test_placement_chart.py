"""Tests the picture of where good adapters are."""

from dataclasses import replace

import pytest

from krona_tune.backbones.geometry import Stack
from krona_tune.report.placement_chart import draw_placement, places_of
from krona_tune.report.task_summary import summarise
from krona_tune.study.backbone_outline import BackboneOutline, recorded_outline
from krona_tune.study.manifest import ModelFacts
from krona_tune.study.standings import Standings
from tests.record.events import manifest, started
from tests.report.many_trials import BERT, T5, subject


def test_the_picture_fills_the_sites_of_the_best_trial() -> None:
    trial = started(1, roles="query+output", layers="last 2")
    filled = {("encoder", 4), ("encoder", 5)}
    assert {(stack, layer) for stack, layer, _ in places_of(trial, BERT.bare())} == filled
    assert {role for *_, role in places_of(trial, BERT.bare())} == {"query", "output"}
    chart = draw_placement(subject(40, BERT))
    assert chart is not None
    [sites] = chart.figure.data
    assert len(sites.x) == 6 * 7
    best = subject(40).summary.ranked[0].trial
    assert list(sites.marker.color).count("#3f83c8") == len(places_of(best, BERT.bare()))
    assert "of the best 10, in" in sites.text[0]
    assert draw_placement(subject(40)) is None


def test_the_picture_of_a_shared_search_fills_the_sites_of_its_best_configuration() -> None:
    found = subject(40, BERT)
    first, *others = found.summary.ranked
    sites = {each.trial.number: places_of(each.trial, BERT.bare()) for each in (first, *others)}
    finished = [each.trial for each in others if each.trial.finished]
    best = next(each for each in finished if len(sites[each.number]) != len(sites[first.trial.number]))
    rows = (*found.recorded.trials, replace(best, task="rte"))
    shared = summarise("cola", Standings(rows, ("cola", "rte")), found.summary.facts)
    chart = draw_placement(replace(found, summary=shared))
    assert chart is not None
    assert list(chart.figure.data[0].marker.color).count("#3f83c8") == len(sites[best.number])


def test_the_decoder_stands_beside_the_encoder_and_has_cross_attention() -> None:
    chart = draw_placement(subject(5, T5))
    assert chart is not None
    [sites] = chart.figure.data
    assert len(sites.x) == 3 * 7 + 3 * 11
    assert max(sites.x) == 6
    assert [note.text for note in chart.figure.layout.annotations] == ["encoder", "decoder"]


@pytest.mark.parametrize("method", ["full", "nonsense"])
def test_a_method_that_stands_nowhere_fills_nothing(method: str) -> None:
    trial = replace(started(1), params={"method": method, "learning_rate": 0.003})
    assert places_of(trial, BERT.bare()) == frozenset()


def test_the_network_is_what_the_manifest_tells_of_it() -> None:
    model = manifest("cola").model
    assert recorded_outline(model) is None
    depths = {Stack.ENCODER: 7, Stack.DECODER: 5}
    told = ModelFacts.model_validate_json(model.model_copy(update={"width": 512, "depths": depths}).model_dump_json())
    assert recorded_outline(told) == BackboneOutline(width=512, depths=depths)
