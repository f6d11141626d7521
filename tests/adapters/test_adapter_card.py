"""Tests that a card is read strictly, as data, and that what is no card is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from krona_tune.adapters.adapter_card import CARD, read_card, task_of
from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal
from tests.adapters.cards import made


def test_a_card_comes_back_equal(tmp_path: Path) -> None:
    card = made(test_score=0.25, test_metrics={"accuracy": 0.25}, seeds=(5, 7))
    (tmp_path / CARD).write_text(card.model_dump_json(), encoding="utf-8")
    assert read_card(tmp_path) == card
    assert card.metric_names == ("accuracy",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"format": 1}, "format: Input should be 2"),
        ({"score": "0.5"}, "score: Input should be a valid number"),
        ({"score": float("nan")}, "score: Input should be a finite number"),
        ({"metrics": {"accuracy": float("inf")}}, "metrics.accuracy: Input should be a finite number"),
        ({"params": {"scale": float("nan")}}, "params.scale."),
        ({"params": {"scale": [1]}}, "params.scale."),
        ({"seeds": [0.5]}, "seeds.0: Input should be a valid integer"),
        ({"labels": "yes"}, "labels: Input should be a valid "),
        ({"synthetic": "yes"}, "synthetic: Input should be a valid boolean"),
        ({"adapter": {"scael": 1}}, "adapter.scael: Extra inputs"),
        ({"adapter": {"scale": -1}}, "adapter.scale: Input should be greater than 0"),
        ({"adapter": {"a_out": 2.5}}, "adapter.a_out: Input should be a valid integer"),
        ({"max_length": 0}, "max_length: Input should be greater than or equal to 1"),
        ({"max_length": 10**12}, "max_length: Input should be less than or equal to 1000000"),
        ({"task": None}, "task: Input should be a valid string"),
    ],
)
def test_what_is_no_card_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    plain = made().model_dump(mode="json") | change
    (tmp_path / CARD).write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(Refusal, match=r"adapter\.json: is no card of an adapter: ") as refused:
        read_card(tmp_path)
    assert message in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": 2}'])
def test_what_is_no_json_object_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / CARD).write_bytes(content)
    with pytest.raises(Refusal, match="is no card of an adapter"):
        read_card(tmp_path)


def test_a_card_of_another_version_says_which_one_reads_it(tmp_path: Path) -> None:
    plain = made().model_dump(mode="json") | {"krona_tune_version": "9.0", "format": 3}
    (tmp_path / CARD).write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(Refusal, match=r"format: Input should be 2; install krona_tune 9\.0, which wrote it"):
        read_card(tmp_path)


def test_a_folder_in_the_cards_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / CARD).mkdir()
    with pytest.raises(Refusal, match=r"adapter\.json: is no file"):
        read_card(tmp_path)


def test_an_unknown_task_or_other_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="unknown task 'colla', did you mean 'cola'"):
        task_of(made(task="colla"), tmp_path)
    with pytest.raises(Refusal, match="its labels are a, b, c; those of CoLA are unacceptable, acceptable"):
        task_of(made(task="cola"), tmp_path)
    assert task_of(made(task="cola", labels=TASKS["cola"].labels), tmp_path) is TASKS["cola"]
    assert task_of(made(task="stsb", labels=()), tmp_path) is TASKS["stsb"]
    assert task_of(made("t5", task="stsb", labels=TASKS["stsb"].candidates), tmp_path) is TASKS["stsb"]
