"""Tests that the study's model says what its data say of each knob, and that the page draws it."""

from pathlib import Path

import pytest

from krona_tune.record.records import FILE, Effect, read_effects, read_records, write_effects
from krona_tune.report.chart import Subject
from krona_tune.report.knob_charts import draw_effects as effects_chart
from krona_tune.report.study_results import StudyResults
from krona_tune.search.searchers.surrogate import TransferSurrogate, effects
from krona_tune.study.request.domain import Choice
from tests.record.events import manifest
from tests.search.surrogates import BUDGETS, RIVALS, SPACE, feed


@pytest.fixture(scope="module")
def found() -> list[Effect]:
    surrogate = TransferSurrogate(SPACE, BUDGETS, seed=1)
    feed(surrogate, "cola", range(25))
    return effects(surrogate, SPACE, "cola", seed=1)


def of(effects: list[Effect], knob: str) -> list[Effect]:
    return [effect for effect in effects if effect.knob == knob]


def test_every_searched_knob_has_an_effect_at_each_of_its_values(found: list[Effect]) -> None:
    assert {effect.knob for effect in found} == set(SPACE.searched())
    domain = SPACE.searched()["layers"]
    assert isinstance(domain, Choice)
    assert [effect.value for effect in of(found, "layers")] == list(domain.values)
    assert all(effect.number is None for effect in of(found, "layers"))
    rates = [effect.number for effect in of(found, "learning_rate")]
    assert rates == pytest.approx([1e-5, 10**-4.2, 10**-3.4, 10**-2.6, 10**-1.8, 1e-1], rel=1e-3)
    assert all(effect.low <= effect.expected <= effect.high for effect in found)


def test_only_the_knob_that_matters_has_a_shape(found: list[Effect]) -> None:
    """The score is highest at a rate of 1e-3, and depends on nothing else."""
    rates = [effect.expected for effect in of(found, "learning_rate")]
    assert max(rates) in rates[2:4]
    assert min(rates) in (rates[0], rates[-1])
    spans = {
        knob: max(each.expected for each in of(found, knob)) - min(each.expected for each in of(found, knob))
        for knob in SPACE.searched()
    }
    assert spans["learning_rate"] > 2 * max(span for knob, span in spans.items() if knob != "learning_rate")


@pytest.mark.slow
def test_a_task_without_scores_has_no_effects() -> None:
    surrogate = TransferSurrogate(SPACE, BUDGETS, seed=1)
    feed(surrogate, "cola", range(8))
    assert effects(surrogate, SPACE, "rte", seed=1) == []
    assert effects(TransferSurrogate(SPACE, BUDGETS, seed=1), SPACE, "cola", seed=1) == []


def test_methods_are_compared_and_their_own_knobs_have_effects() -> None:
    surrogate = TransferSurrogate(RIVALS, {"cola": 100}, seed=1)
    for number in range(12):
        point = {"method": ["krona", "lora", "bitfit"][number % 3]}
        own = RIVALS.of(point["method"])
        params = own.point(lambda _, domain: domain.at(number / 12))  # noqa: B023
        surrogate.history.begin(f"cola-{number:03d}", "cola", params)
        surrogate.history.report(
            f"cola-{number:03d}", 100, {"krona": 0.9, "lora": 0.5, "bitfit": 0.1}[point["method"]], 0.5
        )
        surrogate.history.end(f"cola-{number:03d}", diverged=False)
    methods = {
        effect.value: effect.expected
        for effect in effects(surrogate, RIVALS, "cola", seed=1)
        if effect.knob == "method"
    }
    assert methods["krona"] > methods["lora"] > methods["bitfit"]


def test_effects_come_back_as_they_were_written_and_are_drawn(found: list[Effect], tmp_path: Path) -> None:
    write_effects(tmp_path, found)
    assert read_effects(tmp_path) == found
    recorded = read_records(tmp_path)
    assert recorded.of("cola").effects == tuple(found)
    assert recorded.of("rte").effects == ()
    [summary] = StudyResults(manifest=manifest("cola"), recorded=recorded, spec="").tasks
    chart = effects_chart(Subject(summary=summary, recorded=recorded.of("cola")))
    assert chart is not None
    titles = {annotation.text for annotation in chart.figure.layout.annotations}
    assert {"learning rate", "layers"} <= titles
    assert effects_chart(Subject(summary=summary, recorded=recorded.of("rte"))) is None


def test_damaged_effects_are_as_none(tmp_path: Path) -> None:
    assert read_effects(tmp_path) == []
    (tmp_path / FILE).write_bytes(b"PAR1 nothing")
    assert read_effects(tmp_path) == []
