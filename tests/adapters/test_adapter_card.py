"""Tests that a card is read strictly, as data, and that its texts can't leave their place in a README.md."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from krona_tune.adapters.adapter_card import CARD, AdapterCard, Form, Published, loading, read_card, task_of
from krona_tune.adapters.adapter_files import README
from krona_tune.adapters.model_card import model_card
from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal
from tests.adapters.cards import card_of, saved
from tests.adapters.test_inject import shaped
from tests.models import build


def made(name: str = "bert", **changes: Any) -> AdapterCard:
    shape = build(name)[0]
    return card_of(shape, shaped(shape, "krona"), "ab" * 32, **changes)


def front(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


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


def test_a_saved_adapter_has_a_model_card(tmp_path: Path) -> None:
    saved(tmp_path / "mnli", "bert")
    text = (tmp_path / "mnli" / README).read_text(encoding="utf-8")
    assert front(text) == {
        "library_name": "krona_tune",
        "base_model": "org/tiny",
        "pipeline_tag": "text-classification",
        "metrics": ["accuracy"],
        "tags": ["kronecker-adapter", "krona", "mnli", "synthetic-data"],
    }
    assert (
        "| half | score (synthetic) | accuracy (synthetic) |\n|---|---|---|\n| validation | 0.5000 | 0.5000 |" in text
    )
    assert "| test |" not in text
    assert "num_labels=3" in text
    assert "krona_tune.load(model, 'mnli')" in text
    assert "`python run_study.py --tasks mnli`" in text
    assert "say nothing about real GLUE" in text


def test_real_data_are_not_called_synthetic_and_the_test_half_is_shown() -> None:
    text = model_card(made(synthetic=False, test_score=0.25, test_metrics={"accuracy": 0.25}), Form.MERGED, "out")
    assert "synthetic" not in text
    assert front(text)["datasets"] == ["nyu-mll/glue"]
    assert front(text)["library_name"] == "transformers"
    assert "| test | 0.2500 | 0.2500 |" in text


def test_what_is_published_names_its_licence_its_interval_and_the_repository() -> None:
    published = Published(licence={"license": "other", "license_name": "a\nb"}, repo="me/cola")
    card = made(test_score=0.25, test_interval=(0.2, 0.3))
    text = model_card(card, Form.ADAPTER, "out", published)
    assert {key: front(text)[key] for key in ("license", "license_name")} == {"license": "other", "license_name": "a b"}
    assert "| test | 0.2500 (0.2000 to 0.3000) | – |" in text
    assert "95 % interval of this adapter's test score" in text
    assert "snapshot_download('me/cola')" in text
    assert "from_pretrained('me/cola')" in model_card(card, Form.MERGED, "out", published)
    assert "interval" not in model_card(made(), Form.ADAPTER, "out")


def test_a_folder_is_named_without_the_way_to_it() -> None:
    text = model_card(made(backbone="/home/someone/models/tiny"), Form.MERGED, "out")
    assert "base_model" not in front(text)
    assert "`tiny`" in text
    assert "someone" not in text


def test_no_string_of_a_card_breaks_out_of_its_place() -> None:
    evil = "x\n---\n`|<script>[a](b)\n# heading {{ 7 * 7 }}"
    card = made(task=evil, backbone=evil, study=evil, command=evil, trial_id=evil, selected_by=evil, labels=(evil,) * 3,
                metrics={evil: 0.5}, params={evil: evil}, precision=evil, krona_tune_version=evil)  # fmt: skip
    text = model_card(card, Form.ADAPTER, evil)
    found = front(text)
    assert found["metrics"] == [" ".join(evil.split())]
    assert found["tags"] == ["kronecker-adapter", "krona", " ".join(evil.split()), "synthetic-data"]
    body = text.split("## Use")[0].split("---\n", 2)[2] + text.split("## Where it comes from")[1]
    assert "\n# heading" not in body
    assert "49" not in body
    assert all(line.count("|") in (0, 3, 4) for line in body.splitlines())


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(("name", "outputs"), [("bert", ", num_labels=3"), ("t5", "")])
def test_the_lines_that_load_it_are_python(form: Form, name: str, outputs: str) -> None:
    lines = loading(made(name, backbone="it's\n'here"), form, "some 'where\n")
    compile(lines, "lines", "exec")
    compile(loading(made(name), form, "org/name", on_hub=True), "lines", "exec")
    kind = "AutoModelForSeq2SeqLM" if name == "t5" else "AutoModelForSequenceClassification"
    assert f"from transformers import {kind}" in lines
    assert (outputs in lines) or form is Form.MERGED
