"""Tests which precision a CPU gets, and which errors leave a process without a usable GPU."""

import runpy

import pytest
import torch

from krona_tune.processor import INTEL, TILES, UNIT, Processor
from krona_tune.train import device


def test_a_torch_without_a_class_for_broken_devices_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "AcceleratorError", raising=False)
    has_broken_device = runpy.run_path(str(device.__file__))["has_broken_device"]
    assert has_broken_device(RuntimeError("CUDA error: device-side assert triggered"))
    assert not has_broken_device(torch.OutOfMemoryError("CUDA out of memory"))
    assert not has_broken_device(RuntimeError("shapes do not match"))


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="torch before 2.8 has no such class")
def test_a_torch_with_one_too() -> None:
    assert device.has_broken_device(torch.AcceleratorError("an illegal memory access"))


@pytest.mark.parametrize("kind", [RuntimeError, getattr(torch, "AcceleratorError", RuntimeError)])
@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_memory_that_runs_out_beside_torchs_own_breaks_no_gpu(kind: type[RuntimeError], said: str) -> None:
    assert device.lacks_memory(kind(said))
    assert not device.has_broken_device(kind(said))


def test_a_broken_gpu_does_not_lack_memory() -> None:
    broken = RuntimeError("CUDA error: an illegal memory access was encountered")
    assert device.has_broken_device(broken)
    assert not device.lacks_memory(broken)


@pytest.mark.parametrize(
    ("bf16", "tiles", "intel", "low"),
    [
        (False, False, False, False),
        (True, False, False, True),
        (True, False, True, False),
        (True, True, True, True),
    ],
    ids=["no unit", "AMD's unit", "Intel's unit without AMX", "AMX"],
)
def test_auto_is_bfloat16_where_its_products_are_faster(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, tiles: bool, intel: bool, low: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)  # private: torch tells of it nowhere else
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)  # private: torch tells of it nowhere else
    maker, flags = INTEL if intel else "AuthenticAMD", [UNIT] * bf16 + [TILES] * tiles
    there = Processor(name="", maker=maker, flags=frozenset(flags))
    monkeypatch.setattr(device, "this_processor", lambda: there)
    assert device.this_device("auto", gpu=False).dtype is (torch.bfloat16 if low else torch.float32)
    assert there.prefers_bfloat16 is low
