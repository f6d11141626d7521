"""Tests that a LoRA for llama.cpp has its names and its order of rows, and what no such LoRA holds is refused."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from krona_tune.adapters.export_forms import Form
from krona_tune.adapters.merge import merge
from krona_tune.refusal import Refusal
from krona_tune.train.export import export_adapter
from krona_tune.train.predict import AdaptedModel, load_adapted
from tests.train.exported_adapters import adapter_folder, backbone_folder, writing_adapter

gguf = pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
LENGTH = 7


def held(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the fields and the changes of weights that a file holds, as llama.cpp computes them."""
    reader = gguf.GGUFReader(folder / "adapter.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    tensors = {each.name: torch.tensor(np.array(each.data)) for each in reader.tensors}
    places = {name.rpartition(".")[0] for name in tensors}
    scales = {place: fields["adapter.lora.alpha"] / len(tensors[f"{place}.lora_a"]) for place in places}
    return fields, {p: scales[p] * tensors[f"{p}.lora_b"] @ tensors[f"{p}.lora_a"] for p in places}


def rotated(vectors: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """Returns (length, n) with each pair of components turned by an angle that grows with the position."""
    turned = vectors.clone()
    for number, (one, other) in enumerate(pairs):
        angles = torch.arange(len(vectors)) / 3.0**number
        turned[:, one] = vectors[:, one] * angles.cos() - vectors[:, other] * angles.sin()
        turned[:, other] = vectors[:, other] * angles.cos() + vectors[:, one] * angles.sin()
    return turned


def attended(query: Tensor, key: Tensor, heads: tuple[int, int], pairs: list[tuple[int, int]]) -> Tensor:
    """Returns how much each position attends to each, (heads, length, length), before the softmax."""
    states = torch.randn(LENGTH, query.shape[1], generator=torch.Generator().manual_seed(3))
    queries = (states @ query.T).unflatten(1, (heads[0], -1)).transpose(0, 1)
    keys = (states @ key.T).unflatten(1, (heads[1], -1)).transpose(0, 1).repeat_interleave(heads[0] // heads[1], 0)
    return torch.stack([rotated(q, pairs) @ rotated(k, pairs).T for q, k in zip(queries, keys, strict=True)])


def neighbours(weight: Tensor, heads: int) -> Tensor:
    """Returns a weight in the layout that turns neighbouring components: row i of a half stands before its partner."""
    size = len(weight) // heads
    order = [head * size + i + half * size // 2 for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    return weight[order]


def weights(whole: AdaptedModel, layer: int) -> tuple[Tensor, Tensor]:
    block = whole.backbone.base.get_submodule(f"layers.{layer}.self_attn")
    return tuple(getattr(block, name).weight.detach().clone() for name in ("q_proj", "k_proj"))  # type: ignore[return-value]


@pytest.mark.parametrize(("name", "turns_neighbours"), [("llama", True), ("mistral", True), ("qwen2", False)])
def test_heads_attend_as_they_do_with_the_adapter(name: str, turns_neighbours: bool, tmp_path: Path) -> None:
    adapter = writing_adapter(name, tmp_path, "lora", roles="query+key+value+feed_forward_out", rank=2)
    done = export_adapter(adapter, tmp_path / "out", Form.GGUF)
    assert done.difference < 1e-4
    fields, changes = held(tmp_path / "out")
    names = ("attn_q", "attn_k", "attn_v", "ffn_down")
    assert set(changes) == {f"blk.{layer}.{each}.weight" for layer in range(3) for each in names}
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    assert fields["general.architecture"] == ("qwen2" if name == "qwen2" else "llama")
    whole = load_adapted(adapter)
    config = whole.backbone.config
    heads = (config.num_attention_heads, config.num_key_value_heads)
    bare = weights(whole, 1)
    merge(whole.adapters)
    adapted = weights(whole, 1)
    size = len(bare[0]) // heads[0]
    halves = [(i, i + size // 2) for i in range(size // 2)]
    pairs = [(2 * i, 2 * i + 1) for i in range(size // 2)] if turns_neighbours else halves
    laid = [neighbours(each, n) if turns_neighbours else each for each, n in zip(bare, heads, strict=True)]
    query, key = (each + changes[f"blk.1.{part}.weight"] for each, part in zip(laid, names[:2], strict=True))
    expected = attended(*adapted, heads, halves)
    torch.testing.assert_close(attended(query, key, heads, pairs), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(attended(*bare, heads, halves), expected, atol=1e-2)


def test_a_lower_rank_is_the_nearest_and_the_card_says_how_near(tmp_path: Path) -> None:
    adapter = writing_adapter("llama", tmp_path, terms=2, roles="query+value", layers="last 2")
    with pytest.raises(Refusal) as refused:
        export_adapter(adapter, tmp_path / "out", Form.GGUF)
    assert "LoRA of the adapter's rank" in str(refused.value)
    assert "name a lower one with --rank, or use --format merged" in str(refused.value)
    done = export_adapter(adapter, tmp_path / "out", Form.GGUF, rank=3)
    assert done.approximation is not None
    assert done.approximation.text in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "```bash\nllama-cli -m MODEL.gguf --lora out/adapter.gguf\n```" in (
        tmp_path / "out" / "README.md"
    ).read_text(encoding="utf-8")
    _, changes = held(tmp_path / "out")
    assert {int(torch.linalg.matrix_rank(change)) for change in changes.values()} == {3}
    whole = load_adapted(adapter)
    before = whole.backbone.base.get_submodule("layers.2.self_attn.v_proj").weight.detach().clone()
    merge(whole.adapters)
    whole_change = whole.backbone.base.get_submodule("layers.2.self_attn.v_proj").weight.detach() - before
    values = torch.linalg.svdvals(whole_change.double())
    apart = (changes["blk.2.attn_v.weight"] - whole_change).norm().item()
    assert apart == pytest.approx(values[3:].norm().item(), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "method", "knobs", "said"),
    [
        ("gpt2", "lora", {"roles": "output"}, "gguf: llama.cpp is not known to take LoRA on a gpt2; known: gemma, "),
        ("llama", "lora", {"layer_norms": True}, "gguf: llama.cpp's LoRA has no trained layer norms; use --format mer"),
        ("llama", "krona_b", {}, "krona_b changes no weight of a linear map, as LoRA does; use --format adapter"),
    ],
)
def test_what_llama_cpp_does_not_take_is_refused(
    name: str, method: str, knobs: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(Refusal) as refused:
        export_adapter(writing_adapter(name, tmp_path, method, **knobs), tmp_path / "out", Form.GGUF)
    assert said in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == {"backbone", "adapter"}


def test_a_head_is_refused_and_so_is_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = adapter_folder(backbone_folder("llama", tmp_path / "judge"), tmp_path / "judged", method="lora")
    with pytest.raises(Refusal, match=r"llama\.cpp's LoRA has no head of a task, and this llama answers with one"):
        export_adapter(classifier, tmp_path / "out", Form.GGUF)
    adapter = writing_adapter("llama", tmp_path, "lora", rank=2)
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.delitem(sys.modules, "krona_tune.adapters.gguf_form", raising=False)
    with pytest.raises(Refusal, match=r"the package gguf is not installed; pip install 'krona_tune\[gguf\]'"):
        export_adapter(adapter, tmp_path / "out", Form.GGUF)
    assert not (tmp_path / "out").exists()


def test_a_disk_without_room_leaves_nothing_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gguf.GGUFWriter.write_tensors_to_file", full)
    with pytest.raises(Refusal, match=r"--to: .*out can't be written \(.*No space left on device"):
        export_adapter(writing_adapter("llama", tmp_path, "lora", rank=2), tmp_path / "out", Form.GGUF)
    assert {path.name for path in tmp_path.iterdir()} == {"backbone", "adapter"}
