"""Tests that a small LoRA is fitted to what an adapter computes, and that its scores and the start's are said."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from krona_tune.adapters.adapter_card import read_card
from krona_tune.adapters.adapter_files import read_tensors, save_adapter
from krona_tune.adapters.approximation import Approximation
from krona_tune.adapters.export_forms import Form
from krona_tune.data.batches import evaluation_batches
from krona_tune.refusal import Refusal
from krona_tune.study.request.trial import HEAD_ONLY
from krona_tune.train.distil import distance
from krona_tune.train.export import export_adapter
from krona_tune.train.export_check import logits, sample_inputs
from krona_tune.train.loop import TaskWork
from krona_tune.train.predict import AdaptedModel, load_adapted
from tests.backbones.families import tiny
from tests.search.models import saved_bert, saved_model
from tests.train.exported_adapters import adapter_folder, backbone_folder, texts, work_on, writing_adapter

pytest.importorskip("peft", reason="the extra `peft` is not installed")
SPREAD: dict[str, Any] = {"a_out": 2, "a_in": 4, "terms": 2, "roles": "query+value"}


def left(name: str, room: Path, method: str = "krona", *, task: str = "cola", **knobs: Any) -> Path:
    return adapter_folder(backbone_folder(name, room / "backbone"), room / "adapter", task, method, **knobs)


def on_texts(whole: AdaptedModel) -> TaskWork:
    rows = texts("cola", rows=64)
    return work_on(whole, rows, [number % 2 for number in range(len(rows))])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "t5"])
def test_the_fitted_lora_is_nearer_to_the_adapter_than_the_nearest_in_norm(name: str, tmp_path: Path) -> None:
    adapter = left(name, tmp_path, **SPREAD)
    whole = load_adapted(adapter)
    work, inputs = on_texts(whole), sample_inputs(whole)
    done = export_adapter(adapter, tmp_path / "out", Form.LORA, rank=2, fitted=True, judged_on=work)
    near = export_adapter(adapter, tmp_path / "near", Form.LORA, rank=2, judged_on=work)
    found = done.approximation
    assert isinstance(found, Approximation)
    assert isinstance(near.approximation, Approximation)
    assert found.apart is not None
    assert 0 < found.apart[1] < 0.9 * found.apart[0]
    assert (found.kept, found.before, found.after) == (
        near.approximation.kept,
        near.approximation.before,
        near.approximation.after,
    )
    assert found.fitted is not None
    assert found.texts == 58
    assert found.text in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    expected = logits(whole.answer.model, inputs)
    assert done.difference < 1e-4 * expected.abs().max()
    if name == "t5":
        return
    names: dict[str, Any] = {}
    exec(done.loading, names)
    fitted = logits(names["model"].eval(), inputs)
    exec(near.loading, names)
    nearest = logits(names["model"].eval(), inputs)
    assert (fitted - expected).norm() < (nearest - expected).norm()


def test_an_adapter_that_was_trained_on_all_data_gets_no_validation_score(tmp_path: Path) -> None:
    adapter = left("bert", tmp_path, **SPREAD)
    card = read_card(adapter).model_copy(update={"score": None, "trained_on": "train, validation and test"})
    save_adapter(adapter, read_tensors(adapter), card)
    found = export_adapter(
        adapter, tmp_path / "near", Form.LORA, rank=2, judged_on=on_texts(load_adapted(adapter))
    ).approximation
    assert isinstance(found, Approximation)
    assert (found.before, found.after) == (None, None)
    said = (tmp_path / "near" / "README.md").read_text(encoding="utf-8")
    assert "what that costs on validation was not measured" in said
    assert "The table is of the adapter" not in said
    assert "Unknown: no example was held out from its training." in said


@pytest.mark.slow
def test_an_answer_that_is_text_is_fitted_too(tmp_path: Path) -> None:
    adapter = writing_adapter("llama", tmp_path, terms=2, roles="query+value+feed_forward_out")
    whole = load_adapted(adapter)
    rows = [(str(a), str(b)) for a in range(8) for b in range(8)]
    work = work_on(whole, rows, [str(int(a) + int(b)) for a, b in rows])
    done = export_adapter(adapter, tmp_path / "out", Form.LORA, rank=2, fitted=True, judged_on=work)
    assert isinstance(done.approximation, Approximation)
    assert done.approximation.apart is not None
    assert done.approximation.apart[1] < done.approximation.apart[0]


def test_a_model_is_no_distance_from_itself_and_some_from_the_frozen_one(tmp_path: Path) -> None:
    whole, other = (load_adapted(left("bert", tmp_path / part)) for part in ("one", "two"))
    work = on_texts(whole)
    batch = next(evaluation_batches(work.train, 2048, work.pad_token_id))
    assert distance(other, whole, batch).item() == 0
    other.adapters.detach()
    with torch.no_grad():
        assert distance(other, whole, batch).item() > 1e-3


def test_a_regressions_numbers_may_lie_far_from_zero(tmp_path: Path) -> None:
    """An error of a whole spread would be nothing beside the squares of years."""
    whole, other = (load_adapted(left("bert", tmp_path / part, task="stsb")) for part in ("one", "two"))
    rows = texts("stsb", rows=64)
    work = work_on(whole, rows, [float(number) for number in range(len(rows))])
    batch = next(evaluation_batches(work.train, 2048, work.pad_token_id))
    other.adapters.detach()
    with torch.no_grad():
        near = distance(other, whole, batch, 0.5).item()
        for each in (whole, other):
            [*_, bias] = (p for name, p in each.answer.model.named_parameters() if name.startswith("classifier"))
            bias.add_(1000.0)
        assert distance(other, whole, batch, 0.5).item() == pytest.approx(near, rel=0.02)


def test_states_that_are_fewer_than_the_tokens_are_compared_as_they_are(tmp_path: Path) -> None:
    saved_bert(tmp_path / "words")
    known = {name: value for name, value in tiny("funnel").items() if name != "model_type"}
    saved_model(tmp_path / "funnel", "funnel", known, AutoTokenizer.from_pretrained(tmp_path / "words"))
    whole = load_adapted(adapter_folder(tmp_path / "funnel", tmp_path / "adapter"))
    work = on_texts(whole)
    batch = next(evaluation_batches(work.train, 2048, work.pad_token_id))
    assert distance(whole, whole, batch).item() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "knobs", "rank", "said"),
    [
        (
            "lora",
            {"rank": 2},
            3,
            "--distil: the nearest LoRA of rank 3 is the same adapter; use --format lora --rank 3",
        ),
        (HEAD_ONLY, {}, 3, "--format: head_only changes no weight of a linear map, as LoRA does; use --format merged"),
    ],
)
def test_what_a_fit_can_not_improve_is_refused(
    method: str, knobs: dict[str, Any], rank: int, said: str, tmp_path: Path
) -> None:
    adapter = left("bert", tmp_path, method, **knobs)
    work = on_texts(load_adapted(adapter))
    with pytest.raises(Refusal) as refused:
        export_adapter(adapter, tmp_path / "out", Form.LORA, rank=rank, fitted=True, judged_on=work)
    assert str(refused.value) == said
    assert not (tmp_path / "out").exists()


def test_without_the_texts_there_is_no_fit(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="--distil: the study's training texts can't be read; use --format lora --rank"):
        export_adapter(left("bert", tmp_path, **SPREAD), tmp_path / "out", Form.LORA, rank=2, fitted=True)
    assert not (tmp_path / "out").exists()
