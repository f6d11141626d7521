"""Tests how targets of a deployment are read: in lists and with commas, and refused with the nearest name."""

from pathlib import Path

import pytest

from krona_tune.refusal import Refusal
from krona_tune.study.request.deploy_target import DeployTarget, TargetName
from krona_tune.study.request.loader import build_spec, dump_spec, parse_spec

VLLM = DeployTarget(TargetName.VLLM, 64)
PEFT = DeployTarget(TargetName.PEFT)


@pytest.mark.parametrize("written", ["peft,vllm:64", ["peft", "vllm:64"], ["peft, vllm:064", "peft"]])
def test_targets_are_read_in_lists_and_with_commas_each_once(written: object) -> None:
    spec = build_spec({"model": "m", "deploy": written}, "x.yaml")
    assert spec.deploy == (PEFT, VLLM)
    assert spec.plain()["deploy"] == ["peft", "vllm:64"]
    assert parse_spec(dump_spec(spec), "y.yaml", Path()).deploy == spec.deploy


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("mergd", "x.yaml: deploy: unknown target 'mergd', did you mean 'merged'?"),
        ("", "x.yaml: deploy: unknown target ''; known: gguf, krona, merged, onnx, peft, vllm"),
        ("vllm", "x.yaml: deploy: 'vllm' does not say the largest rank; write vllm:64"),
        ("vllm:0", "x.yaml: deploy: 'vllm:0' does not say the largest rank; write vllm:64"),
        ("vllm:-3", "x.yaml: deploy: 'vllm:-3' does not say the largest rank; write vllm:64"),
        ("vllm:99999999", "x.yaml: deploy: 'vllm:99999999' does not say the largest rank; write vllm:64"),
        (["merged:3"], "x.yaml: deploy: 'merged:3': merged has no rank; write merged"),
        (["peft", 3], "x.yaml: deploy: 3 is no target; write merged or vllm:64"),
    ],
)
def test_what_is_no_target_is_refused(written: object, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        build_spec({"model": "m", "deploy": written}, "x.yaml")
    assert str(refused.value) == message
