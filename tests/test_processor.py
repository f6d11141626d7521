"""Tests that a processor is read on x86, on ARM and where nothing is told, and that torch gets its threads."""

import subprocess
import sys
from pathlib import Path

import pytest

from krona_tune import processor
from krona_tune.processor import this_processor, torch_threads

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9654
flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni

processor\t: 1
vendor_id\t: GenuineIntel
"""
OF_INTEL = X86.replace("AuthenticAMD", "GenuineIntel")
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve bf16\n"


USUAL = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16")


@pytest.mark.parametrize(
    ("told", "maker", "instructions", "bfloat16"),
    [
        (X86, "AuthenticAMD", USUAL, True),
        (OF_INTEL, "GenuineIntel", USUAL, False),
        (OF_INTEL.replace("fpu", "amx_tile"), "GenuineIntel", (*USUAL, "amx_tile"), True),
        (ARM, None, ("asimd", "bf16", "sve"), False),
        (None, None, (), False),
    ],
    ids=["AMD's unit", "Intel's unit without AMX", "AMX", "ARM", "nothing told"],
)
def test_the_first_processor_that_linux_lists_counts(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    told: str | None,
    maker: str | None,
    instructions: tuple[str, ...],
    bfloat16: bool,
) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    if told is not None:
        (tmp_path / "cpuinfo").write_text(told, encoding="utf-8")
    found = this_processor()
    assert found.instructions == instructions
    assert found.prefers_bfloat16 is bfloat16
    assert found.name
    if maker:
        assert (found.maker, found.is_intel) == (maker, maker == "GenuineIntel")


def test_what_is_read_here_agrees_with_torch() -> None:
    import torch

    # private: torch tells of it nowhere else
    assert ("avx512_bf16" in this_processor().flags) == torch.cpu._is_avx512_bf16_supported()


def test_torch_computes_on_that_many_threads_and_then_as_before_also_after_an_error() -> None:
    import torch

    used: list[int] = []

    def fail() -> None:
        used.append(torch.get_num_threads())
        raise ValueError("wrong")

    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="wrong"), torch_threads(before + 1):
        fail()
    assert (used, torch.get_num_threads()) == ([before + 1], before)


FORKS = """
import os
from krona_tune.processor import was_forked
child = os.fork()
assert was_forked() is not bool(child)
assert not child or os.wait()[1] == 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_a_forked_process_knows_that_it_is_one_and_the_other_that_it_is_none() -> None:
    subprocess.run([sys.executable, "-c", FORKS], check=True)
