"""Tests that the GPU benchmark runs, on a tiny model and any device."""

import pytest

from tests.benchmarks import gpu


def test_every_method_is_measured_beside_the_frozen_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main("tiny", "2")
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split("  ")[0] for row in rows] == ["frozen", "KronA", "LoRA r=1", "PEFT's LoKr"]
    milliseconds, over, *_, launches, computing = (float(word) for word in rows[1].split()[1:])
    assert milliseconds > 0
    assert over > 0.5
    assert launches > float(rows[0].split()[-2])
    assert 0 < computing < 1
