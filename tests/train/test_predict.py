"""Tests that new examples get the trained model's answers, in their own order."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import transformers

import krona_tune
from krona_tune.adapters.adapter_card import CARD, read_card
from krona_tune.adapters.export_forms import Form
from krona_tune.data.encode import splitting_fingerprint, vocabulary_fingerprint
from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal
from krona_tune.train import predict
from krona_tune.train.backbone_source import find_backbone
from krona_tune.train.export import export_adapter
from krona_tune.train.predict import load_adapted, predictions
from tests.train.conftest import full_above
from tests.train.exported_adapters import adapter_folder, backbone_folder, texts


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_an_encoders_answers_are_those_of_one_text_at_a_time(task: str, tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter", task)
    rows = texts(task)
    whole = load_adapted(adapter)
    answered = list(predictions(whole, rows))
    assert len(set(answered)) > 1
    for row, prediction in zip(rows, answered, strict=True):
        with torch.no_grad():
            logits = whole.answer.model(**whole.tokenizer(*row, return_tensors="pt")).logits[0]
        if task == "stsb":
            assert float(prediction.text) == pytest.approx(float(logits), abs=1e-3)
            assert prediction.probabilities == ()
        else:
            assert prediction.text == TASKS[task].labels[logits.argmax()]
            assert prediction.probabilities == pytest.approx(logits.softmax(-1).tolist(), abs=1e-5)
    assert krona_tune.predict(adapter, rows) == [prediction.text for prediction in answered]


def test_a_model_that_reads_no_short_texts_can_be_loaded(tmp_path: Path) -> None:
    """A Funnel of three blocks, as all published ones are, fails at four tokens."""
    place = backbone_folder("bert", tmp_path / "backbone")
    words = len(transformers.AutoTokenizer.from_pretrained(place))
    sizes = {"d_model": 24, "n_head": 4, "d_head": 6, "d_inner": 40, "vocab_size": words, "num_labels": 2}
    config = transformers.FunnelConfig(block_sizes=[1, 1, 1], **sizes)
    transformers.FunnelForSequenceClassification(config).save_pretrained(place)
    adapter = adapter_folder(place, tmp_path / "adapter")
    assert krona_tune.predict(adapter, ["one text of many words, and of some more"])


def test_a_prediction_leaves_the_random_numbers_of_its_caller_as_they_are(tmp_path: Path) -> None:
    place = backbone_folder("bert", tmp_path / "backbone")
    transformers.AutoModel.from_pretrained(place).save_pretrained(place)  # without a head, which is drawn then
    adapter = adapter_folder(place, tmp_path / "adapter", "cola")
    drawn = []
    for predicts in (False, True):
        torch.manual_seed(1)
        if predicts:
            krona_tune.predict(adapter, texts("cola"))
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]


FORKS = """
import multiprocessing, pathlib, sys
import torch
import krona_tune
from krona_tune.adapters.export_forms import Form
from krona_tune.train.export import export_adapter

torch.set_num_threads(2)
(torch.ones(600, 600) @ torch.ones(600, 600)).sin().sum()
adapter, merged = map(pathlib.Path, sys.argv[1:])

def computes():
    assert len(krona_tune.predict(adapter, ["one text " * 40] * 64)) == 64
    export_adapter(adapter, merged, Form.MERGED)

forked = multiprocessing.get_context("fork").Process(target=computes)
forked.start()
forked.join()
sys.exit(forked.exitcode)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP's threads, which a forked process lacks")
def test_a_forked_process_answers_after_the_other_one_has_computed(tmp_path: Path) -> None:
    """It waited for ever for the threads of the process that it was forked from."""
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter", "cola")
    command = [sys.executable, "-c", FORKS, str(adapter), str(tmp_path / "merged")]
    subprocess.run(command, check=True, timeout=300)


def test_a_tokenizer_whose_ids_mean_other_words_is_refused(tmp_path: Path) -> None:
    """The weights are the same, so that only its answers would tell."""
    place = backbone_folder("bert", tmp_path / "backbone")
    adapter = adapter_folder(place, tmp_path / "adapter", "cola")
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    on_card(adapter, vocabulary=vocabulary_fingerprint(tokenizer))
    before = krona_tune.predict(adapter, texts("cola"))
    tokenizer.save_pretrained(place)  # as another version may write it
    assert krona_tune.predict(adapter, texts("cola")) == before
    path = place / "tokenizer.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    words = found["model"]["vocab"]
    first, second = sorted(words)[-2:]
    words[first], words[second] = words[second], words[first]
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(Refusal, match=r"was trained with another tokenizer than the one in .*backbone, whose ids mean"):
        krona_tune.predict(adapter, texts("cola"))
    on_card(adapter, vocabulary="")  # of an earlier version
    assert krona_tune.predict(adapter, texts("cola"))


def test_a_tokenizer_that_puts_other_ids_around_its_texts_is_noticed(tmp_path: Path) -> None:
    """The vocabulary is the same."""
    place = backbone_folder("bert", tmp_path / "backbone")
    adapter = adapter_folder(place, tmp_path / "adapter", "cola")
    on_card(adapter, splitting=splitting_fingerprint(transformers.AutoTokenizer.from_pretrained(place)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        krona_tune.predict(adapter, texts("cola"))
    path = place / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "post_processor": None}))
    with pytest.warns(match=r"the tokenizer in .*backbone splits texts otherwise than the one that .*adapter was tra"):
        krona_tune.predict(adapter, texts("cola"))


@pytest.mark.parametrize(("key", "value", "said"), [("layer_norm_eps", 0.1, "1e-12"), ("num_attention_heads", 1, "4")])
def test_a_model_whose_configuration_was_changed_is_refused(tmp_path: Path, key: str, value: float, said: str) -> None:
    """The weights are the same."""
    place = backbone_folder("bert", tmp_path / "backbone")
    adapter = adapter_folder(place, tmp_path / "adapter", "cola")
    on_card(adapter, backbone_config=find_backbone(str(place)).computing)
    before = krona_tune.predict(adapter, texts("cola"))
    path = place / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        json.dumps({**config, "transformers_version": "9", "id2label": {"0": "x", "1": "y"}, "use_cache": False})
    )
    assert krona_tune.predict(adapter, texts("cola")) == before
    path.write_text(json.dumps({**config, key: value}))
    with pytest.raises(Refusal, match=rf"was trained with {key} {said}, the config.json of .*backbone says {value}"):
        krona_tune.predict(adapter, texts("cola"))


def on_card(adapter: Path, **facts: object) -> None:
    card = read_card(adapter).model_copy(update=facts)
    (adapter / CARD).write_text(card.model_dump_json(), encoding="utf-8")


def test_a_model_that_a_study_keeps_is_found_where_the_study_is_now(tmp_path: Path) -> None:
    """A model from memory lies in the folder of its study, which was renamed since."""
    study = tmp_path / "first"
    backbone_folder("bert", study / "inputs" / "model")
    adapter_folder(study / "inputs" / "model", study / "adapters" / "cola")
    before = krona_tune.predict(study / "adapters" / "cola", texts("cola"))
    adapter = study.rename(tmp_path / "second") / "adapters" / "cola"
    assert krona_tune.predict(adapter, texts("cola")) == before
    export_adapter(adapter, tmp_path / "out", Form.ADAPTER)
    assert read_card(tmp_path / "out").backbone == str(tmp_path / "second" / "inputs" / "model")


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_a_text_to_text_model_answers_with_its_likeliest_word(task: str, tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("t5", tmp_path / "backbone"), tmp_path / "adapter", task)
    rows = texts(task, rows=9)
    whole = load_adapted(adapter)
    for row, prediction in zip(rows, predictions(whole, rows), strict=True):
        inputs = whole.tokenizer(whole.task.prompt(row), return_tensors="pt")
        losses = []
        for word in whole.task.candidates:
            labels = whole.tokenizer(word, return_tensors="pt").input_ids
            with torch.no_grad():
                losses.append(whole.answer.model(**inputs, labels=labels).loss * labels.shape[1])
        likely = (-torch.stack(losses)).softmax(-1)
        best = whole.task.candidates[likely.argmax()]
        if task == "stsb":
            assert float(prediction.text) == float(best)
        else:
            assert prediction.text == best
            assert prediction.probabilities == pytest.approx(likely.tolist(), abs=1e-4)


def test_examples_that_memory_does_not_hold_together_are_answered_in_parts(tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter", "cola")
    whole, rows = load_adapted(adapter), texts("cola")
    expected = list(predictions(whole, rows))
    with full_above(2, whole.answer.model):
        found = list(predictions(whole, rows))
    assert [each.text for each in found] == [each.text for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_no_examples_have_no_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert krona_tune.predict("~/adapter", []) == []


def test_answers_come_in_order_while_the_rows_are_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_adapted(adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter", "stsb"))
    rows, read = texts("stsb"), []
    monkeypatch.setattr(predict, "ROWS_AT_ONCE", 7)
    coming = predictions(whole, (read.append(row) or row for row in rows))
    first = next(coming)
    assert read == rows[:7]
    found = [float(prediction.text) for prediction in (first, *coming)]
    alone = [float(prediction.text) for row in rows for prediction in predictions(whole, [row])]
    assert found == pytest.approx(alone, abs=2e-4)
    assert len(set(found)) > 7


def test_an_example_of_another_shape_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    backbone = backbone_folder("bert", tmp_path / "backbone")
    adapter = adapter_folder(backbone, tmp_path / "adapter", "stsb")
    (backbone / "config.json").unlink()
    with pytest.raises(Refusal, match=r"examples\[1\]: 1 text instead of 2; .* as a tuple"):
        krona_tune.predict(adapter, [("a", "b"), "a"])


def test_it_is_told_how_many_inputs_were_cut(tmp_path: Path) -> None:
    adapter = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter")
    whole, told = load_adapted(adapter), list[tuple[int, int]]()
    words = [" ".join(["the"] * count) for count in (3, whole.card.max_length - 2, whole.card.max_length - 1, 70)]
    assert len(list(predictions(whole, [(text,) for text in words], lambda *counts: told.append(counts)))) == 4
    list(predictions(whole, [("the",)], lambda *counts: told.append(counts)))
    assert told == [(2, 4)]
    with pytest.warns(UserWarning, match=r"2 of 4 inputs were cut to \d+ tokens, as in training"):
        krona_tune.predict(adapter, words)
