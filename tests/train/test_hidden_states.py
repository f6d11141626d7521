"""Tests that stored hidden states are those of their table and backbone, and that a trial over them is the same."""

import fcntl
import os
import zlib
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from krona_tune.adapters.method_table import METHODS
from krona_tune.backbones.geometry import Stack
from krona_tune.backbones.introspect import introspect
from krona_tune.data.batches import Ints, evaluation_batches
from krona_tune.study.request.study_spec import BackboneSpec
from krona_tune.train import checkpoint, hidden_states
from krona_tune.train.backbone import Backbone, freeze
from krona_tune.train.device import Device
from krona_tune.train.hidden_states import HiddenStates, HiddenStateStore, compute_states, skipped_layers, stored_bytes
from krona_tune.train.loop import TaskWork, TrialRun
from tests.models import CONFIGS, FEW_KEYS, STORING, build_from, of_each_kind
from tests.train.conftest import FLOAT32, WORDS, full_above, table, tiny_backbone, tiny_trial, tiny_work

TABLE = table(10, 1)
WIDTH = 6


def states(
    value: float, calls: list[float] | None = None, of: pa.Table = TABLE
) -> Generator[tuple[Ints, torch.Tensor]]:
    """Gives each token's id plus a value, with nonsense where the batch is padded."""
    if calls is not None:
        calls.append(value)
    for batch in evaluation_batches(of, 40, 0):
        ids = torch.from_numpy(batch.inputs["input_ids"]).float()
        yield batch.rows, (ids + value + (ids == 0) * 1e9)[..., None].expand(*ids.shape, WIDTH)


def get(
    store: HiddenStateStore, key: str, value: float, calls: list[float] | None = None, of: pa.Table = TABLE
) -> HiddenStates:
    """Returns the states of one table."""
    found = store.get(key, [of], WIDTH, torch.float32, lambda table: states(value, calls, table))
    assert found is not None
    return found[0]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_atime)


def test_rows_come_back_padded_with_zeros(tmp_path: Path) -> None:
    found = get(HiddenStateStore(tmp_path, 10**6), "a", 0.5)
    [batch] = evaluation_batches(TABLE.slice(0, 10), 10**6, 0)
    padded = found.padded(batch)
    ids = torch.from_numpy(batch.inputs["input_ids"]).float()
    expected = torch.where(torch.from_numpy(batch.inputs["attention_mask"]).bool(), ids + 0.5, 0.0)
    assert torch.equal(padded, expected[..., None].expand(-1, -1, WIDTH))


def test_they_are_computed_once_for_a_key_and_a_table(tmp_path: Path) -> None:
    calls: list[float] = []
    for _ in range(2):
        get(HiddenStateStore(tmp_path, 10**6), "a", 1.0, calls)
    assert calls == [1.0]
    get(HiddenStateStore(tmp_path, 10**6), "b", 2.0, calls)
    other = table(10, 2)
    get(HiddenStateStore(tmp_path, 10**6), "a", 3.0, calls, other)
    assert calls == [1.0, 2.0, 3.0]


def test_labels_do_not_matter(tmp_path: Path) -> None:
    calls: list[float] = []
    flipped = TABLE.set_column(1, "label", [1 - np.array(TABLE["label"])])
    for each in (TABLE, flipped):
        get(HiddenStateStore(tmp_path, 10**6), "a", 1.0, calls, each)
    assert calls == [1.0]


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_a_damaged_file_is_noticed_and_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, calls = HiddenStateStore(tmp_path, 10**6), []
    first = get(store, "a", 1.0, calls)
    whole = first.values.clone()
    del first
    [path] = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes({"cut": content[:-7], "changed": content, "emptied": b""}[damage])
    again = get(store, "a", 1.0, calls)
    assert torch.equal(again.values, whole)
    assert calls == [1.0, 1.0]
    assert "is made again" in caplog.text


@pytest.mark.parametrize("odd", [os.mkfifo, lambda path: path.symlink_to("/nowhere")], ids=["pipe", "broken link"])
def test_what_is_no_file_is_replaced_and_never_waited_for(tmp_path: Path, odd: Callable[[Path], None]) -> None:
    store, calls = HiddenStateStore(tmp_path, 10**6), list[float]()
    get(store, "a", 1.0)
    [path] = files(tmp_path)
    path.unlink()
    odd(path)
    odd(tmp_path / "of-another.safetensors")
    for _ in range(2):
        get(store, "a", 1.0, calls)
    assert calls == [1.0]


def test_tables_that_are_too_large_together_are_not_even_computed(tmp_path: Path) -> None:
    size = stored_bytes([TABLE], WIDTH, 4)
    store = HiddenStateStore(tmp_path, int(1.5 * size))
    calls: list[float] = []
    assert store.get("a", [TABLE, TABLE], WIDTH, torch.float32, lambda table: states(1.0, calls)) is None
    assert calls == []
    assert not files(tmp_path)


def test_a_full_disk_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("krona_tune.train.hidden_states.save_file", full)
    found = get(HiddenStateStore(tmp_path, 10**6), "a", 0.5)
    assert found.values.shape == (stored_bytes([TABLE], 1, 1), WIDTH)
    assert "hidden states can't be stored: SafetensorError" in caplog.text
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock" and path.name != ".lock"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".states.safetensors.1234.tmp"
    leftover.write_bytes(b"half")
    get(HiddenStateStore(tmp_path, 10**6), "a", 0.5)
    assert not leftover.exists()


def test_the_least_recently_used_goes_where_room_is_needed(tmp_path: Path) -> None:
    size = stored_bytes([TABLE], WIDTH, 4)
    store = HiddenStateStore(tmp_path, int(2.5 * size) + 300)
    for age, key in ((300, "a"), (200, "b")):
        get(store, key, 1.0)
        os.utime(files(tmp_path)[-1], (1e9 - age, 1e9 - age))
    get(store, "a", 1.0)  # used again
    get(store, "c", 1.0)
    calls: list[float] = []
    for key in ("a", "c"):
        get(store, key, 1.0, calls)
    assert calls == []
    get(store, "b", 1.0, calls)
    assert calls == [1.0]


def others(path: Path, values: torch.Tensor, of: str | None = None) -> None:
    """Puts a file with other states and their right checksum in a file's place."""
    path.unlink()
    named = {"crc32": str(zlib.crc32(values.contiguous().view(torch.uint8).numpy().data))}
    save_file({"hidden_states": values}, path, named | ({"of": of} if of else {}))


@pytest.mark.parametrize("other", ["rows", "width", "type", "table"])
def test_other_states_are_not_taken_for_those_of_the_table(
    tmp_path: Path, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Their checksum is right: the file was copied here from another one."""
    store, calls = HiddenStateStore(tmp_path, 10**6), []
    whole = get(store, "a", 1.0, calls).values.clone()
    [path] = files(tmp_path)
    changed = {"rows": whole[1:], "width": whole[:, 1:], "type": whole.half(), "table": whole + 1}
    others(path, changed[other].contiguous(), "another" if other == "table" else path.stem)
    assert torch.equal(get(store, "a", 1.0, calls).values, whole)
    assert calls == [1.0, 1.0]
    assert "is made again" in caplog.text


def test_a_file_of_before_it_held_its_name_is_used(tmp_path: Path) -> None:
    store, calls = HiddenStateStore(tmp_path, 10**6), []
    whole = get(store, "a", 1.0, calls).values.clone()
    others(*files(tmp_path), whole)
    assert torch.equal(get(store, "a", 1.0, calls).values, whole)
    assert calls == [1.0]


@pytest.mark.parametrize("of", ["the file", "the folder"])
def test_a_process_that_stopped_while_it_filled_a_file_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, of: str
) -> None:
    monkeypatch.setattr(hidden_states, "SAID_SECONDS", 0.01)
    monkeypatch.setattr(hidden_states, "PATIENCE_SECONDS", 0.02)
    store, calls = HiddenStateStore(tmp_path, 10**6), []
    whole = get(store, "a", 1.0, calls).values.clone()
    [path] = files(tmp_path)
    path.unlink()
    with (path.with_suffix(".lock") if of == "the file" else tmp_path / ".lock").open("wb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert torch.equal(get(store, "a", 1.0, calls).values, whole)
    assert calls == [1.0, 1.0]
    assert not files(tmp_path)
    assert "it is waited for, at most 0.02 s" in caplog.text
    assert "its states are computed here too" in caplog.text
    get(store, "a", 1.0, calls)
    assert len(files(tmp_path)) == 1


def test_the_lock_of_a_file_that_is_removed_stays_for_those_who_wait_for_it(tmp_path: Path) -> None:
    size = stored_bytes([TABLE], WIDTH, 4)
    store = HiddenStateStore(tmp_path, int(1.5 * size))
    get(store, "a", 1.0)
    [path] = files(tmp_path)
    lock = path.with_suffix(".lock")
    before = lock.stat().st_ino
    get(store, "b", 1.0)
    assert not path.exists()
    assert lock.stat().st_ino == before


SOME = [*(name for name in METHODS if name not in {"full", "bitfit", "head_only"}), "peft:HiRA"]


@pytest.fixture
def store(tmp_path: Path) -> HiddenStateStore:
    return HiddenStateStore(tmp_path / "states", 10**9)


def work_of(backbone: Backbone, epochs: float = 2) -> TaskWork:
    return tiny_work(epochs=epochs, candidates=WORDS if backbone.geometry.text_to_text else ())


def outcome(backbone: Backbone, store: HiddenStateStore | None, **knobs: Any) -> tuple[list[float], list[float], Any]:
    """Returns the losses and the scores of the rungs, and the trained state."""
    run = TrialRun("t", tiny_trial(**knobs), work_of(backbone), backbone, store)
    try:
        found = [run.advance() for _ in range(2)]
        assert run.finished
        return [each.train_loss for each in found], [each.score for each in found], run.state()
    finally:
        run.close()


def assert_equal(one: Any, other: Any, tolerance: float = 1e-5) -> None:
    assert one[0] == pytest.approx(other[0], abs=tolerance)
    assert one[1] == pytest.approx(other[1], abs=tolerance)
    for name, tensor in one[2].items():
        torch.testing.assert_close(tensor, other[2][name], atol=1e-4, rtol=1e-3)


PAIRS = [
    pytest.param(*case.values, SOME[at], marks=case.marks)
    for place, case in enumerate(of_each_kind(STORING))
    for at in range(place % 3, len(SOME), 3)
]
"""Every family with a third of the methods, in turn; test_inject tries each family with every method."""


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_the_last_layer_is_trained_as_above_computed_layers(name: str, method: str, store: HiddenStateStore) -> None:
    backbone = tiny_backbone(name)
    knobs = {"method": method, "layers": "last 1"}
    assert_equal(outcome(backbone, store, **knobs), outcome(backbone, None, **knobs))


@pytest.mark.parametrize("name", of_each_kind(name for name in STORING if "convolution" not in name))
def test_adapted_layers_train_their_norms_and_drop_out_above_computed_layers(
    name: str, store: HiddenStateStore
) -> None:
    """The random numbers are those of the layers that are computed, so both ways drop the same."""
    backbone = tiny_backbone(name)
    knobs = {"layers": "last 1", "layer_norms": "adapted", "dropout": 0.2, "dropout_layers": "adapted"}
    stored = outcome(backbone, store, **knobs)
    assert_equal(stored, outcome(backbone, None, **knobs))
    assert stored[0] != outcome(backbone, store, **{**knobs, "dropout": 0.0})[0]


@pytest.mark.parametrize("name", of_each_kind(STORING))
def test_the_model_is_left_as_it_was(name: str, store: HiddenStateStore) -> None:
    backbone = tiny_backbone(name)
    names = [path for path, _ in backbone.whole.named_modules()]
    weights = {key: tensor.clone() for key, tensor in backbone.whole.state_dict().items()}
    outcome(backbone, store, layers="last 1")
    assert [path for path, _ in backbone.whole.named_modules()] == names
    assert all("forward" not in vars(module) for module in backbone.whole.modules())
    assert all(torch.equal(tensor, weights[key]) for key, tensor in backbone.whole.state_dict().items())


def counted(backbone: Backbone, layer: int) -> tuple[list[int], Any]:
    """Returns a list that grows whenever a layer of the first stack is computed, and the hook that makes it grow."""
    first = backbone.geometry.first_stack
    site = next(s for s in backbone.geometry.sites if s.stack is first and s.layer == layer)
    path = site.name.partition(f".{layer}.")[0]
    calls: list[int] = []
    module = backbone.base.get_submodule(f"{path}.{layer}")
    return calls, module.register_forward_hook(lambda *_: calls.append(1))


@pytest.mark.parametrize("name", ["bert", "distilbert", "electra", "deberta", "t5"])
def test_what_is_frozen_is_computed_once_for_all_trials(name: str, store: HiddenStateStore) -> None:
    backbone = tiny_backbone(name)
    calls, hook = counted(backbone, 0)
    outcome(backbone, store, layers="last 1")
    assert 0 < len(calls) <= 6  # a few batches for each table
    calls.clear()
    outcome(backbone, store, layers="last 1", scale=4.0)
    assert calls == []
    hook.remove()


def test_states_that_memory_does_not_hold_are_computed_in_parts() -> None:
    backbone, of = tiny_backbone(), table(20, 3)
    expected = states_by_row(backbone, of)
    with full_above(3, backbone.base):
        found = states_by_row(backbone, of)
    assert found.keys() == expected.keys() == set(range(20))
    for row, states in found.items():
        torch.testing.assert_close(states, expected[row])


def states_by_row(backbone: Backbone, of: pa.Table) -> dict[int, torch.Tensor]:
    parts = compute_states(backbone, 1, of, 0)
    return {int(row): each for rows, states in parts for row, each in zip(rows, states, strict=True)}


def test_layers_that_attend_in_several_ways_are_never_left_out() -> None:
    backbone = tiny_backbone("qwen2")
    assert skipped_layers(backbone, tiny_trial(method="head_only")) == 3
    backbone.config.layer_types = ["full_attention", "sliding_attention", "full_attention"]
    assert skipped_layers(backbone, tiny_trial(method="head_only")) == 0


def test_a_dropout_of_any_name_keeps_layers_from_being_left_out() -> None:
    values = {**FEW_KEYS, "pad_token_id": 0, "embedding_dropout": 0.0, "attention_dropout": 0.0}
    for residual, layers in ((0.3, 0), (0.0, 2)):
        shape, model, _ = build_from("starcoder2", {**values, "residual_dropout": residual}, outputs=2)
        trial = tiny_trial(layers="last 1", dropout=None, a_out=2, a_in=2)
        assert skipped_layers(freeze(model, shape, FLOAT32), trial) == layers


def test_a_decoder_that_writes_reads_all_of_its_text() -> None:
    backbone = tiny_backbone("llama")
    writing = replace(backbone, geometry=backbone.geometry.writing())
    assert skipped_layers(writing, tiny_trial(method="head_only")) == 0


def test_a_layer_with_a_convolution_of_its_own_is_never_left_out() -> None:
    assert skipped_layers(tiny_backbone("deberta-v2 convolution"), tiny_trial(method="head_only")) == 0


@pytest.mark.parametrize(
    "name", of_each_kind(name for name in STORING if not {"t5", "convolution"} & {*name.split(), name[-2:]})
)
def test_a_head_alone_needs_one_pass_over_its_data(name: str, store: HiddenStateStore) -> None:
    backbone = tiny_backbone(name)
    last, hook = counted(backbone, max(backbone.geometry.depths.values()) - 1)
    stored = outcome(backbone, store, method="head_only")
    assert 0 < len(last) <= 6
    hook.remove()
    assert_equal(stored, outcome(backbone, None, method="head_only"))


@pytest.mark.parametrize("name", ["t5", "umt5"])
def test_a_whole_encoder_is_left_out_where_only_the_decoder_is_adapted(name: str, store: HiddenStateStore) -> None:
    backbone = tiny_backbone(name)
    knobs = {"stacks": "decoder", "roles": "query+cross_value"}
    assert skipped_layers(backbone, tiny_trial(**knobs)) == backbone.geometry.depths["encoder"]
    assert_equal(outcome(backbone, store, **knobs), outcome(backbone, None, **knobs))


@pytest.mark.parametrize("knobs", [{}, {"method": "head_only"}])
def test_a_whole_encoder_is_left_out_where_named_maps_are_in_the_decoder(
    knobs: dict[str, Any], store: HiddenStateStore
) -> None:
    """Then no map of the encoder is among those that may carry an adapter."""
    backbone = tiny_backbone("t5")
    corrections = BackboneSpec(target_modules=("EncDecAttention.q",)).corrections
    model_type, values = CONFIGS["t5"]
    named = replace(backbone, geometry=introspect({"model_type": model_type, **values}, "here", corrections))
    assert {site.stack for site in named.geometry.sites} == {Stack.DECODER}
    assert skipped_layers(named, tiny_trial(**knobs)) == named.geometry.depths[Stack.ENCODER]
    assert_equal(outcome(named, store, **knobs), outcome(named, None, **knobs))


@pytest.mark.parametrize(
    ("knobs", "layers"),
    [
        ({"layers": "last 1"}, 2),
        ({"layers": "last 2"}, 1),
        ({"layers": "all"}, 0),
        ({"layers": "last 1", "layer_norms": True}, 0),
        ({"layers": "last 1", "dropout": 0.1}, 0),
        ({"layers": "last 1", "dropout": None}, 0),
        ({"layers": "last 1", "layer_norms": "adapted", "dropout": 0.1, "dropout_layers": "adapted"}, 2),
        ({"layers": "last 1", "dropout": None, "dropout_layers": "adapted"}, 2),
        ({"method": "bitfit", "layers": "last 1", "layer_norms": "adapted"}, 2),
        ({"method": "head_only", "layer_norms": "adapted", "dropout": 0.1, "dropout_layers": "adapted"}, 3),
        ({"method": "head_only"}, 3),
        ({"method": "bitfit", "layers": "last 1"}, 0),
        ({"method": "full"}, 0),
        ({"method": "adapter", "layers": "last 1"}, 2),
    ],
)
def test_only_what_nothing_trained_and_no_dropout_precedes_is_left_out(knobs: dict[str, Any], layers: int) -> None:
    backbone = tiny_backbone()
    if knobs.get("dropout", 0.0) is None:
        next(m for m in backbone.base.modules() if isinstance(m, torch.nn.Dropout)).p = 0.1
    assert skipped_layers(backbone, tiny_trial(**knobs)) == layers


def test_in_bfloat16_scores_differ_by_less_than_seeds_do(store: HiddenStateStore) -> None:
    differences, scores = [], []
    for seed in range(6):
        backbone = tiny_backbone("bert", Device(kind="cpu", dtype=torch.bfloat16))
        pair = []
        for each in (store, None):
            trial = tiny_trial(layers="last 1").model_copy(update={"seed": seed})
            run = TrialRun("t", trial, work_of(backbone), backbone, each)
            pair.append([run.advance().train_loss for _ in range(2)][-1])
            run.close()
        differences.append(pair[0] - pair[1])
        scores.append(pair[1])
    assert abs(sum(differences) / 6) <= max(1e-6, torch.tensor(scores).std().item() / 6**0.5)


def test_a_resumed_trial_goes_on_over_stored_states(tmp_path: Path, store: HiddenStateStore) -> None:
    backbone, trial = tiny_backbone(), tiny_trial(layers="last 1")
    expected = outcome(backbone, store, layers="last 1")
    first = TrialRun("t", trial, work_of(backbone), backbone, store)
    first.advance()
    checkpoint.save(first, tmp_path)
    first.close()
    second = TrialRun("t", trial, work_of(backbone), backbone, store)
    checkpoint.load(second, tmp_path)
    assert second.advance().train_loss == expected[0][1]
    assert all(torch.equal(tensor, expected[2][name]) for name, tensor in second.state().items())
    second.close()


def test_a_finalist_is_tested_over_stored_states(store: HiddenStateStore) -> None:
    backbone = tiny_backbone()
    work = replace(work_of(backbone), test=tiny_work(rows=30).train)
    scores = []
    for each in (store, None):
        run = TrialRun("t", tiny_trial(layers="last 1"), work, backbone, each)
        while not run.finished:
            run.advance()
        scores.append(run.evaluate_on_test())
        run.close()
    assert scores[0] == scores[1]


def test_states_beyond_the_limit_are_not_stored_and_the_trial_is_trained_all_the_same(tmp_path: Path) -> None:
    backbone, small = tiny_backbone(), HiddenStateStore(tmp_path / "states", 1000)
    assert_equal(outcome(backbone, small, layers="last 1"), outcome(backbone, None, layers="last 1"), 0.0)
    assert not list((tmp_path / "states").glob("*.safetensors"))


def test_states_of_a_model_with_other_norms_or_embeddings_are_its_own(store: HiddenStateStore) -> None:
    """Neither is part of the fingerprint that an adapter knows its backbone by."""
    for change in ("embeddings.word_embeddings.weight", "encoder.layer.0.output.LayerNorm.weight", None):
        backbone = tiny_backbone()
        if change:
            with torch.no_grad():
                backbone.base.get_parameter(change).mul_(1.5)
        assert_equal(outcome(backbone, store, layers="last 1"), outcome(backbone, None, layers="last 1"))


def test_a_folder_that_can_not_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    backbone, nowhere = tiny_backbone(), HiddenStateStore(tmp_path / "file" / "states", 10**9)
    assert_equal(outcome(backbone, nowhere, layers="last 1"), outcome(backbone, None, layers="last 1"), 0.0)
    assert "hidden states can't be stored" in caplog.text
