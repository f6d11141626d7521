"""Tests that a head is the family's own, and that a T5's candidates get exactly transformers' likelihood."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal
from krona_tune.train.backbone import Backbone, freeze
from krona_tune.train.device import Device
from krona_tune.train.task_heads import (
    Head,
    VerbalizedAnswer,
    in_units_of_labels,
    make_answer,
    start_token,
    with_head,
)
from tests.backbones.families import build
from tests.models import HEADED, T5GEMMA, build_from, tokens
from tests.train.conftest import WORDS, tiny_backbone


@pytest.mark.parametrize("name", HEADED)
def test_a_shared_base_with_a_head_equals_the_familys_model(name: str) -> None:
    backbone = tiny_backbone(name)
    model = with_head(backbone, 2, seed=3).eval()
    assert type(model) is type(backbone.whole)
    assert model.base_model is backbone.base
    head = {key: tensor for key, tensor in backbone.whole.state_dict().items() if key in dict(model.state_dict())}
    model.load_state_dict(head)
    inputs = tokens(backbone.geometry)
    torch.testing.assert_close(model(**inputs).logits, backbone.whole(**inputs).logits)


@pytest.mark.parametrize("name", HEADED)
def test_heads_are_drawn_from_their_seed_alone_and_sanely(name: str) -> None:
    backbone = tiny_backbone(name)
    first, again, other = (
        torch.cat([p.flatten() for _, p in make_answer(backbone, TASKS["mnli"], seed).head()]) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= (1.0 if name == "modernbert" else 0.5)  # its head has a norm
    assert first.numel() == backbone.geometry.head_parameters(3)
    assert first.requires_grad


@pytest.mark.parametrize(("task", "outputs"), [("mnli", 3), ("cola", 2), ("stsb", 1)])
def test_the_head_has_the_tasks_outputs(task: str, outputs: int) -> None:
    got = make_answer(tiny_backbone("roberta"), TASKS[task], 0)
    assert got.model.classifier.out_proj.weight.shape[0] == outputs
    inputs = tokens(tiny_backbone("roberta").geometry)
    assert got.predict(inputs).shape == (5,)


def test_a_regression_learns_its_scores_and_a_classification_its_classes() -> None:
    backbone = tiny_backbone()
    inputs = tokens(backbone.geometry)
    score = make_answer(backbone, TASKS["stsb"], 0)
    score.model.eval()
    labels = torch.tensor([0.0, 1.2, 2.4, 3.6, 5.0])
    predicted = score.predict(inputs)
    torch.testing.assert_close(score.loss(inputs, labels), (predicted - labels).square().mean().float())
    classes = make_answer(backbone, TASKS["rte"], 0)
    classes.model.eval()
    likely = classes.predict(inputs)
    assert classes.loss(inputs, likely) < classes.loss(inputs, 1 - likely)


@pytest.mark.parametrize("name", ["t5", "t5 gated", "mt5", "umt5", "bart", "t5gemma"])
def test_candidates_get_the_log_likelihood_that_transformers_computes(name: str) -> None:
    backbone = t5gemma() if name == "t5gemma" else tiny_backbone(name)
    words = VerbalizedAnswer(backbone, TASKS["rte"], WORDS)
    inputs = {key: value for key, value in tokens(backbone.geometry).items() if key != "decoder_input_ids"}
    with torch.no_grad():
        got = words.outputs(inputs)
        assert got.shape == (5, 2)
        for column, ids in enumerate(WORDS):
            for row in range(5):
                one = {key: value[row : row + 1] for key, value in inputs.items()}
                loss = backbone.base(**one, labels=torch.tensor([ids])).loss
                torch.testing.assert_close(got[row, column], -loss * len(ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "limit", "most", "pairs"),
    [
        ("t5", "CANDIDATE_ROWS", 60, [52, 52, 26]),
        ("t5", "CANDIDATE_ROWS", 10, [10] * 13),
        ("t5", "MOST_LOGITS", 97 * 3 * 30, [26] * 5),
        ("t5", "MOST_LOGITS", 97 * 3 * 7, [7] * 18 + [4]),
        ("granite", "MOST_LOGITS", 97 * (3 + 3) * 7, [7] * 18 + [4]),
        ("granite", "MOST_LOGITS", 1, [1] * 130),
    ],
)
def test_many_candidates_are_scored_in_chunks_like_at_once(
    name: str, limit: str, most: int, pairs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, candidates = build_frozen(name), [(10 + i, 1) if i % 2 else (10 + i, 50, 1) for i in range(26)]
    words, chunks = VerbalizedAnswer(backbone, TASKS["stsb"], candidates), []
    inputs = {key: value for key, value in tokens(backbone.geometry).items() if key != "decoder_input_ids"}
    backbone.whole.register_forward_hook(lambda _, __, found: chunks.append(len(found.logits)))
    with torch.no_grad():
        together = words.outputs(inputs)
        assert chunks == [130]
        monkeypatch.setattr(f"krona_tune.train.task_heads.{limit}", most)
        torch.testing.assert_close(words.outputs(inputs), together)
        assert chunks[1:] == pairs
        scores = words.predict(inputs)
    assert torch.equal(scores, together.argmax(-1).double() / 5)


def build_frozen(name: str) -> Backbone:
    shape, whole = build(name)
    return freeze(whole, shape, Device(kind="cpu", dtype=torch.float32))


def t5gemma() -> Backbone:
    shape, whole, _ = build_from("t5gemma", T5GEMMA)
    return freeze(whole, shape, Device(kind="cpu", dtype=torch.float32))


def test_an_answer_begins_after_the_token_that_is_named_first() -> None:
    backbone = t5gemma()
    whole: Any = backbone.whole
    assert start_token(backbone) == backbone.config.decoder.bos_token_id == 2
    whole.generation_config.decoder_start_token_id = 7
    assert start_token(backbone) == 7
    backbone.config.decoder_start_token_id = 8
    assert start_token(backbone) == 8
    assert start_token(tiny_backbone("bart")) == 2
    for holder in (backbone.config, whole.generation_config):
        holder.decoder_start_token_id = None
    backbone.config.decoder.bos_token_id, backbone.config.pad_token_id = None, 6
    assert start_token(backbone) == 6
    backbone.config.pad_token_id = None
    with pytest.raises(
        Refusal, match="this t5gemma names no token that an answer begins after; give it a decoder_start"
    ):
        make_answer(backbone, TASKS["rte"], 0, WORDS)


def test_a_t5_is_trained_on_the_nearest_grid_score() -> None:
    backbone = tiny_backbone("t5")
    candidates = tuple((10 + i, 1) for i in range(26))
    words = VerbalizedAnswer(backbone, TASKS["stsb"], candidates)
    inputs = {key: value for key, value in tokens(backbone.geometry).items() if key != "decoder_input_ids"}
    labels = torch.tensor([2.57, 2.57, 2.57, 2.57, 2.57])
    expected = backbone.base(**inputs, labels=torch.tensor([candidates[13]] * 5)).loss
    torch.testing.assert_close(words.loss(inputs, labels), expected)


def test_class_weights_weigh_the_examples_of_a_head_and_of_a_t5() -> None:
    weighted = replace(TASKS["rte"], class_weights=(3.0, 1.0))
    labels = torch.tensor([0, 1, 1, 0, 1])
    for backbone, candidates in ((tiny_backbone(), ()), (tiny_backbone("t5"), ((7, 1), (9, 1)))):
        inputs = {key: value for key, value in tokens(backbone.geometry).items() if key != "decoder_input_ids"}
        plain, heavy = (make_answer(backbone, task, 0, candidates) for task in (TASKS["rte"], weighted))
        for answer in (plain, heavy):
            answer.model.eval()
        each = [plain.loss({key: value[row : row + 1] for key, value in inputs.items()}, labels[row : row + 1])
                for row in range(5)]  # fmt: skip
        weights = torch.tensor([3.0, 1.0, 1.0, 3.0, 1.0])
        expected = (torch.stack(each) * weights).sum() / weights.sum()
        torch.testing.assert_close(heavy.loss(inputs, labels), expected)


def test_a_regression_learns_in_its_own_scale_and_answers_in_the_labels() -> None:
    backbone = tiny_backbone()
    inputs, labels = tokens(backbone.geometry), torch.tensor([900.0, 1000.0, 1100.0, 1000.0, 1000.0])
    plain = make_answer(backbone, TASKS["stsb"], 0)
    scaled = make_answer(backbone, replace(TASKS["stsb"], centre=1000.0, spread=50.0), 0)
    for answer in (plain, scaled):
        answer.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(scaled.predict(inputs), plain.predict(inputs) * 50 + 1000)
        torch.testing.assert_close(scaled.loss(inputs, labels), plain.loss(inputs, (labels - 1000) / 50))


def test_a_regression_with_a_large_offset_tells_near_answers_apart() -> None:
    task = replace(TASKS["stsb"], centre=1e9, spread=6.0)
    answer = make_answer(tiny_backbone(), task, 0)
    assert isinstance(answer, Head)
    logits = torch.tensor([[-1.5], [0.1], [0.2], [1.7]])
    assert (answer.chosen(logits) - 1e9).tolist() == pytest.approx([-9.0, 0.6, 1.2, 10.2], abs=1e-5)


def test_a_t5_answers_with_a_regressions_own_words() -> None:
    backbone = tiny_backbone("t5")
    stars = replace(TASKS["stsb"], grid=(1.0, 2.0, 5.0), words=("1", "2", "5"))
    words = VerbalizedAnswer(backbone, stars, ((10, 1), (11, 1), (12, 1)))
    inputs = {key: value for key, value in tokens(backbone.geometry).items() if key != "decoder_input_ids"}
    expected = backbone.base(**inputs, labels=torch.tensor([[12, 1]] * 5)).loss
    torch.testing.assert_close(words.loss(inputs, torch.tensor([4.4] * 5)), expected)
    assert set(words.predict(inputs).tolist()) <= {1.0, 2.0, 5.0}


def test_words_of_a_regression_with_a_large_offset_are_told_apart() -> None:
    dates = replace(TASKS["stsb"], grid=(20240101.0, 20240102.0, 20240103.0), words=("1", "2", "3"))
    answer = VerbalizedAnswer(tiny_backbone("t5"), dates, ((10, 1), (11, 1), (12, 1)))
    assert answer.chosen(torch.eye(3)).tolist() == list(dates.grid)
    inputs = {
        key: value[:1] for key, value in tokens(tiny_backbone("t5").geometry).items() if key != "decoder_input_ids"
    }
    losses = {answer.loss(inputs, torch.tensor([date], dtype=torch.float64)).item() for date in dates.grid}
    assert len(losses) == 3


@pytest.mark.parametrize("name", HEADED)
def test_a_saved_regression_head_answers_in_units_of_its_labels(name: str) -> None:
    backbone = tiny_backbone(name)
    inputs = tokens(backbone.geometry)
    task = replace(TASKS["stsb"], centre=1000.0, spread=50.0)
    trained, saved = make_answer(backbone, task, 3), make_answer(backbone, TASKS["stsb"], 4)
    tensors = {f"head.{key}": parameter.detach() for key, parameter in trained.head()}
    with torch.no_grad():
        for key, parameter in saved.head():
            parameter.copy_(in_units_of_labels(tensors, task)[f"head.{key}"])
        for answer in (trained, saved):
            answer.model.eval()
        torch.testing.assert_close(saved.predict(inputs), trained.predict(inputs), atol=1e-3, rtol=1e-4)


def test_a_decoder_without_a_head_scores_label_words_as_transformers_does() -> None:
    backbone = build_frozen("granite")
    shape, whole = backbone.geometry, backbone.whole
    words = [[11, 12, 2], [13, 2], [14, 15, 16, 2]]
    answer = make_answer(backbone, TASKS["mnli"], 0, words)
    inputs = tokens(shape)
    found = answer.outputs(inputs)  # type: ignore[attr-defined]
    for row, (ids, mask) in enumerate(zip(inputs["input_ids"], inputs["attention_mask"], strict=True)):
        prompt = ids[mask.bool()]
        for column, word in enumerate(words):
            read = torch.cat([prompt, torch.tensor(word)])[None]
            said = whole(input_ids=read).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
            torch.testing.assert_close(found[row, column], said[range(len(word)), word].sum())
    labels = torch.tensor([0, 1, 2, 0, 1])
    of_each = torch.stack([found[row, label] for row, label in enumerate(labels)])
    tokens_of = sum(len(words[label]) for label in labels)
    torch.testing.assert_close(answer.loss(inputs, labels), -of_each.sum() / tokens_of)
    assert answer.predict(inputs).tolist() == found.argmax(-1).tolist()
