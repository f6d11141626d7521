"""Tests that labels far from 0 are refused or doubted where a head can't tell them apart, or hardly learns them."""

from dataclasses import replace

import pytest

from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal
from krona_tune.search.planning.label_offset import doubt_far_labels, refuse_alike_labels
from krona_tune.train.task_heads import Head, make_answer
from tests.models import HEADED
from tests.train.conftest import tiny_backbone


@pytest.mark.parametrize("name", HEADED)
def test_labels_far_from_zero_are_doubted_where_a_head_has_no_bias(name: str) -> None:
    task = replace(TASKS["stsb"], centre=1e3, spread=10.0)
    backbone = tiny_backbone(name)
    answer = make_answer(backbone, task, 0)
    assert isinstance(answer, Head)
    has_bias = any(tensor.shape == (1,) for _, tensor in answer.head())
    assert backbone.geometry.head_has_bias == has_bias
    found = list(doubt_far_labels(task, backbone.geometry))
    assert len(found) == (not has_bias)
    assert all("1,000 ± 10" in each and each.endswith("subtract 1,000 from the column") for each in found)


@pytest.mark.parametrize(
    ("centre", "spread", "number"),
    [(0.45, 0.1, "0.5"), (0.31, 0.02, "0.31"), (-0.4, 0.05, "-0.4"), (1.52, 0.05, "1.52"), (1987.0, 12.0, "1,990")],
)
def test_what_is_subtracted_leaves_labels_near_zero(centre: float, spread: float, number: str) -> None:
    task = replace(TASKS["stsb"], centre=centre, spread=spread)
    geometry = tiny_backbone("llama").geometry
    (said,) = doubt_far_labels(task, geometry)
    assert said.endswith(f": subtract {number} from the column")
    after = replace(task, centre=centre - float(number.replace(",", "")))
    assert not list(doubt_far_labels(after, geometry))


def test_labels_that_a_saved_head_can_not_tell_apart_are_refused() -> None:
    dates = replace(TASKS["stsb"], centre=20240101.0, spread=10.0)
    geometry = tiny_backbone("bert").geometry
    with pytest.raises(Refusal, match="can't tell its labels apart: 20,240,101 ± 10; subtract 20,240,10"):
        refuse_alike_labels(dates, geometry)
    refuse_alike_labels(replace(dates, spread=3000.0), geometry)
    refuse_alike_labels(dates, tiny_backbone("t5").geometry)
