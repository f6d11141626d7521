"""Tests what a dry run says of time, money, memory and disk, and that each follows from what is asked for."""

import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from krona_tune import machine
from krona_tune.data.corpus import PARTS, load
from krona_tune.data.glue_files import OFFICIAL_SIZES
from krona_tune.data.tasks import TASKS
from krona_tune.search.full_training import FullTraining
from krona_tune.search.planning.footprint import checkpoints_of
from krona_tune.search.startup import needs
from krona_tune.search.startup.estimate import Speed
from krona_tune.search.startup.needs import (
    START_AND_END,
    Needs,
    TextMeans,
    find_needs,
    full_training_in_words,
    itemsize_of,
    means_of,
    needs_in_words,
)
from krona_tune.search.startup.slots import Slots, slots, this_machine
from krona_tune.study.formatting import format_duration
from krona_tune.study.request.study_spec import ResourcesSpec
from tests.rows import row
from tests.search.plans import plan

CORES = Slots(cpus=1, gpus=0, count=2)
SPEED = Speed(maps=1e8, attention=1e8, layer_seconds=1e-4, spread=2.0, how="by guess")


def found(slots: Slots = CORES, read: dict[str, TextMeans] | None = None, **search: Any) -> Needs:
    return find_needs(plan(**search), slots, SPEED, read or {})


def words(on: Slots = CORES, price: float | None = None, **search: Any) -> dict[str, str]:
    asked = plan(**search)
    resources = asked.spec.resources.model_copy(update={"price_per_hour": price})
    asked = replace(asked, spec=asked.spec.model_copy(update={"resources": resources}))
    return dict(needs_in_words(asked, find_needs(asked, on, SPEED, {}), on, Path.cwd()))


def test_times_are_a_range_around_the_estimate() -> None:
    needs = found()
    low, high = (seconds - START_AND_END for seconds in needs.seconds)
    assert high == pytest.approx(4 * low)
    assert needs.device_hours[1] == pytest.approx(4 * needs.device_hours[0])
    assert 1.5 < found(Slots(cpus=1, gpus=0, count=1)).seconds[0] / needs.seconds[0] < 2  # two wait for each other
    assert found(trials=8).device_hours[0] > needs.device_hours[0]


@pytest.mark.parametrize(
    ("everything", "seeds", "trainings", "in_turn"), [(False, 1, "1 training", 1), (True, 3, "3 trainings", 2)]
)
def test_a_full_training_takes_what_its_trial_took_for_as_many_examples(
    everything: bool, seeds: int, trainings: str, in_turn: int
) -> None:
    tried = row("rte", trial_id="rte-000", examples=200, train_seconds=1.5, evaluation_seconds=0.5)
    asked, official = plan(), OFFICIAL_SIZES["rte"]
    each = asked.spec.schedule.of("rte", sum(official[: len(PARTS)]) if everything else official.train).total_examples
    asks = FullTraining(of=tried, seeds=seeds, everything=everything)
    said = f"{trainings} of {each:,} examples"
    took = format_duration(each * 0.01 * in_turn + START_AND_END)
    whole = f"about {took} for {said}, 2 at once, at the pace of rte-000"
    assert full_training_in_words(asked, asks, CORES) == whole
    assert full_training_in_words(asked, replace(asks, of=replace(tried, examples=0)), CORES) == said


def test_texts_that_were_read_count_with_the_tokens_that_they_have() -> None:
    long = {name: means_of([90, 110]) for name in ("cola", "rte")}
    assert long["cola"] == TextMeans(tokens=100, pairs=(90**2 + 110**2) / 2)
    assert found(read=long).seconds[0] > found().seconds[0]


def test_disk_is_that_of_the_preflight_and_memory_grows_with_the_precision() -> None:
    asked = plan()
    checkpoints = checkpoints_of(asked)
    assert found().checkpoint_bytes == (checkpoints.usually, checkpoints.most)
    wide, narrow = (replace(asked, computes_in=each) for each in ("fp32", "bf16"))
    assert find_needs(wide, CORES, SPEED, {}).worker_bytes > find_needs(narrow, CORES, SPEED, {}).worker_bytes


def test_stored_states_take_no_more_than_the_examples_give() -> None:
    few, many = (found(read={name: means_of([tokens]) for name in ("cola", "rte")}).stored_bytes for tokens in (4, 8))
    assert 0 < few < many < 2e9
    assert many == pytest.approx(2 * few)


def test_money_stands_there_with_a_price_and_a_budget_is_the_most() -> None:
    assert "money" not in words()
    assert set(words(price=3.0)) == {"time", "hours", "money", "memory", "disk"}
    hours = re.findall(r"[\d.]+", words(time_budget=36)["hours"])[-1:] * 2
    assert 0.015 < float(hours[1]) < 0.02  # 36 s of two cores, less what they wait
    assert "the budget of time ends it after 36 s" in words(time_budget=36)["time"]
    cost = re.search(r"to ([\d.]+), at 100.00 a device hour$", words(price=100.0, time_budget=36)["money"])
    assert cost
    assert float(cost[1]) == pytest.approx(100 * float(hours[1]), abs=0.05)


def test_every_limit_cuts_time_hours_and_money_and_the_first_one_is_named() -> None:
    needs = found()
    half = round(needs.examples / 2)
    for limits, name in (({"examples_budget": half}, "examples"), ({"device_hours": 1e-3}, "device hours")):
        said = words(price=100.0, time_budget=36_000, **limits)
        hours = [1e-3, 1e-3] if "device_hours" in limits else [each / 2 for each in needs.device_hours]
        written = dict.fromkeys(f"{each:.2g}" if each >= 0.01 else "less than 0.01" for each in hours)
        assert said["hours"] == f"{' to '.join(written)} core hours"
        assert said["money"].startswith(f"{100 * hours[0]:.2f} to {100 * hours[1]:.2f}, ")
        assert f"; the budget of {name} ends it after " in said["time"]


def test_the_examples_that_a_study_sees_are_those_of_all_its_trials() -> None:
    few, more = (found(trials=trials, early_stopping=False).examples for trials in (4, 6))
    epochs, train = plan().spec.schedule.epochs, [OFFICIAL_SIZES[task].train for task in ("cola", "rte")]
    assert more - few == pytest.approx(2 * epochs * sum(train))


def test_a_container_s_memory_is_that_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "GROUP", tmp_path)
    for name, text in (("memory.max", "3000000"), ("memory.current", "1000")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert words(slots(this_machine(), ResourcesSpec()))["memory"].endswith("; there is 3.0 MB, which is too little")


def test_a_gpu_is_named() -> None:
    said = words(Slots(cpus=1, gpus=1, count=1))
    assert "GPU hours" in said["hours"]
    assert "GPU memory" in said["memory"]


@pytest.mark.skipif("KRONA_GLUE_DIR" not in os.environ, reason="needs GLUE's official files")
@pytest.mark.parametrize("name", ["rte", "cola", "mrpc", "stsb", "wnli"])
def test_the_official_files_have_as_many_examples(name: str) -> None:
    data = load(TASKS[name], os.environ["KRONA_GLUE_DIR"])
    assert tuple(getattr(data, part).num_rows for part in PARTS) == OFFICIAL_SIZES[name][:3]


@pytest.mark.parametrize(
    ("precision", "gpus", "fast", "size"),
    [("fp32", 1, True, 4), ("bf16", 0, False, 2), ("auto", 1, False, 2), ("auto", 0, True, 2), ("auto", 0, False, 4)],
)
def test_numbers_have_the_bytes_of_what_a_trial_computes_in(
    precision: str, gpus: int, fast: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "this_processor", lambda: SimpleNamespace(prefers_bfloat16=fast))
    asked = replace(plan(), spec=plan().spec.model_copy(update={"precision": precision}))
    assert itemsize_of(asked, Slots(cpus=1, gpus=gpus, count=1)) == size
