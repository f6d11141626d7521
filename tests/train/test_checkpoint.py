"""Tests that a checkpoint belongs to certain weights."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from krona_tune.train import checkpoint
from krona_tune.train.backbone import Backbone, freeze
from krona_tune.train.loop import TrialRun
from tests.train.conftest import tiny_backbone, tiny_trial, tiny_work

PROGRESS = ("rung", "step", "fingerprint", "backbone_fingerprint", "report")


def test_a_trial_goes_on_with_its_own_weights_only(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    run = TrialRun("t1", tiny_trial(), tiny_work(), backbone)
    run.advance()
    checkpoint.save(run, tmp_path)
    kept = checkpoint.read_trained(tmp_path)
    assert (kept.fingerprint, kept.backbone_fingerprint) == (run.trial.fingerprint, backbone.fingerprint)
    assert kept.backbone_parts.keys() == {"embeddings", "encoder", "pooler"}
    assert all(torch.equal(kept.tensors[name], tensor) for name, tensor in run.state().items())
    run.close()
    again = TrialRun("t1", tiny_trial(), tiny_work(), tiny_backbone())
    checkpoint.load(again, tmp_path)
    assert again.rung == 1

    other = TrialRun("t1", tiny_trial(), tiny_work(), _other_backbone())
    with pytest.raises(checkpoint.Unusable, match=r"is of the backbone [0-9a-f]{64}, this is [0-9a-f]{64}"):
        checkpoint.load(other, tmp_path)
    embedded = replace(tiny_backbone(), parts=backbone.parts | {"embeddings": "ab" * 32})
    with pytest.raises(checkpoint.Unusable, match="is of a backbone with other weights in embeddings"):
        checkpoint.load(TrialRun("t1", tiny_trial(), tiny_work(), embedded), tmp_path)


@pytest.mark.parametrize("change", [lambda head: None, lambda head: head[..., :-1].contiguous()])
def test_a_checkpoint_with_another_head_changes_nothing(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor | None]
) -> None:
    run = TrialRun("t1", tiny_trial(), tiny_work(), tiny_backbone())
    run.advance()
    checkpoint.save(run, tmp_path)
    tensors = load_file(tmp_path / checkpoint.TENSORS)
    name = next(name for name in tensors if name.startswith("head."))
    changed = change(tensors.pop(name))
    save_file(tensors | ({} if changed is None else {name: changed}), tmp_path / checkpoint.TENSORS)

    again = TrialRun("t1", tiny_trial(), tiny_work(), tiny_backbone())
    before = again.state()
    with pytest.raises(checkpoint.Unusable, match=f"{name} is missing or is not"):
        checkpoint.load(again, tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in again.state().items())


def _change(file: str, change: Callable[[Any], Any], folder: Path) -> None:
    if file == checkpoint.PROGRESS:
        progress = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps(change(progress)), encoding="utf-8")
    else:
        torch.save(change(torch.load(folder / file)), folder / file)


def _without_moments(state: Any) -> Any:
    return {**state, "adamw": {**state["adamw"], "state": {}}}


def _with_fewer_groups(state: Any) -> Any:
    return {**state, "adamw": {**state["adamw"], "param_groups": state["adamw"]["param_groups"][:1]}}


def _with_turned_moments(state: Any) -> Any:
    first = state["adamw"]["state"][0]
    first["exp_avg"] = first["exp_avg"].T.contiguous()
    return state


@pytest.mark.parametrize(
    ("file", "change"),
    [
        *((checkpoint.PROGRESS, change) for change in (lambda _: [], lambda _: None)),
        *((checkpoint.PROGRESS, lambda found, key=key: {k: found[k] for k in found if k != key}) for key in PROGRESS),
        (checkpoint.PROGRESS, lambda found: {**found, "step": "6"}),
        (checkpoint.PROGRESS, lambda found: {**found, "report": {**found["report"], "unknown": 1}}),
        *((checkpoint.OPTIMISER, change) for change in (lambda _: [1], lambda _: {"a": 1}, _without_moments)),
        *((checkpoint.OPTIMISER, change) for change in (_with_fewer_groups, _with_turned_moments)),
    ],
)
def test_a_checkpoint_with_other_content_is_unusable_and_changes_nothing(
    tmp_path: Path, file: str, change: Callable[[Any], Any]
) -> None:
    run = TrialRun("t1", tiny_trial(), tiny_work(rows=16), tiny_backbone())
    run.advance()
    checkpoint.save(run, tmp_path)
    _change(file, change, tmp_path)
    again = TrialRun("t1", tiny_trial(), tiny_work(rows=16), tiny_backbone())
    before = again.state()
    with pytest.raises(checkpoint.Unusable, match="can't be read"):
        checkpoint.load(again, tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in again.state().items())
    assert (again.rung, again.step, again.last_report) == (0, 0, None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a state of a GPU can be read there anyway")
def test_a_state_that_a_gpu_kept_goes_on_without_one(tmp_path: Path) -> None:
    run = TrialRun("t1", tiny_trial(), tiny_work(), tiny_backbone())
    run.advance()
    checkpoint.save(run, tmp_path)
    expected = run.advance()
    run.close()
    _say_that_a_gpu_kept(tmp_path / checkpoint.OPTIMISER)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / checkpoint.OPTIMISER)
    again = TrialRun("t1", tiny_trial(), tiny_work(), tiny_backbone())
    checkpoint.load(again, tmp_path)
    found = again.advance()
    assert (found.score, found.train_loss, found.step) == (expected.score, expected.train_loss, expected.step)


def test_a_state_that_memory_does_not_hold_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is damaged is set aside, and the trial begins again."""
    run = TrialRun("t1", tiny_trial(), tiny_work(), tiny_backbone())
    run.advance()
    checkpoint.save(run, tmp_path)

    def full(*words: object, **named: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        checkpoint.load(run, tmp_path)


def _say_that_a_gpu_kept(path: Path) -> None:
    """Writes the name of a GPU in the place of the CPU's, as the pickle of a file of torch has it: after its length."""
    with zipfile.ZipFile(path) as file:
        held = {name: file.read(name) for name in file.namelist()}
    assert any(b"X\x03\0\0\0cpu" in content for content in held.values())
    with zipfile.ZipFile(path, "w") as file:
        for name, content in held.items():
            is_pickle = name.endswith("/data.pkl")
            file.writestr(name, content.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0") if is_pickle else content)


def _other_backbone() -> Backbone:
    backbone = tiny_backbone()
    with torch.no_grad():
        backbone.base.get_submodule(backbone.geometry.sites[0].name).weight.neg_()
    return freeze(backbone.whole, backbone.geometry, backbone.device)


@pytest.mark.parametrize("rate", [1e-2, 2e-2], ids=["the same rate", "twice the rate"])
def test_a_clone_goes_on_from_the_state_of_another_trial(tmp_path: Path, rate: float) -> None:
    first = TrialRun("cola-000", tiny_trial(), tiny_work(), tiny_backbone())
    first.advance()
    checkpoint.save(first, tmp_path)
    assert first.optimiser is not None
    next_rate = first.optimiser.learning_rate
    expected = first.advance()
    own = tmp_path / "own"
    own.mkdir()
    changed = tiny_trial().model_copy(
        update={"training": tiny_trial().training.model_copy(update={"learning_rate": rate})}
    )
    checkpoint.adopt(tmp_path, own, changed)
    clone = TrialRun("cola-clone-0", changed, tiny_work(), tiny_backbone())
    checkpoint.load(clone, own)
    assert (clone.rung, clone.last_report) == (1, None), "it reports no rung of the other's"
    assert clone.optimiser is not None
    rates = [group["initial_lr"] for group in clone.optimiser.adamw.param_groups]
    assert set(rates) == {rate}
    assert clone.optimiser.learning_rate == pytest.approx(next_rate * rate / tiny_trial().training.learning_rate)
    found = clone.advance()
    assert found.trial_id == "cola-clone-0"
    assert (found.train_loss == expected.train_loss) is (rate == tiny_trial().training.learning_rate)
    step = clone.optimiser.decay
    assert step.get_last_lr() == [rate * step.lr_lambdas[0](clone.step)] * len(rates)


def test_a_clone_of_half_a_state_is_refused(tmp_path: Path) -> None:
    run = TrialRun("cola-000", tiny_trial(), tiny_work(), tiny_backbone())
    run.advance()
    checkpoint.save(run, tmp_path)
    (tmp_path / checkpoint.TENSORS).write_bytes(b"half")
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(checkpoint.Unusable, match="can't be read"):
        checkpoint.adopt(tmp_path, own, tiny_trial())


def test_a_copied_state_knows_what_it_has_seen_also_when_it_is_copied_again(tmp_path: Path) -> None:
    run = TrialRun("cola-000", tiny_trial(), tiny_work(), tiny_backbone())
    seen = run.advance().examples
    places = [tmp_path / name for name in ("first", "second", "third")]
    for place in places:
        place.mkdir()
    checkpoint.save(run, places[0])
    for place, own in pairwise(places):
        checkpoint.adopt(place, own, tiny_trial())
        assert (checkpoint.examples_of(own), checkpoint.last_report(own)) == (seen, None)
