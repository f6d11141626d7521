"""Tests that a method's name leads to a configuration of peft, also of one's own, or is refused with the reason."""

from pathlib import Path

import pytest
import torch

from krona_tune.adapters.inject import Adapters
from krona_tune.adapters.peft_class import config_class, field_types
from krona_tune.adapters.placement import count
from krona_tune.refusal import Refusal
from krona_tune.study.request.trial import AdapterConfig
from tests.adapters.peft_methods import PLACES
from tests.models import build
from tests.trained_adapters import outputs, trained


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("peft:HiRAA", "did you mean 'hira'"),
        ("peft:AdaLoRA", "it must be told of every step"),
        ("peft:PrefixTuning", "adapts no linear maps"),
        ("peft:torch.nn.Linear", "is no PeftConfig"),
        ("peft:no_such_module.Config", "can't be imported"),
        ("peft:peft.AdaLoraConfig", "it must be told of every step"),
    ],
)
def test_what_is_no_method_of_peft_is_refused(method: str, said: str) -> None:
    with pytest.raises(Refusal, match=said):
        config_class(method)


OWN = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING
import torch
from peft import LoraConfig, PeftConfig

if TYPE_CHECKING:
    from nowhere import Thing

@dataclass
class WithDtype(LoraConfig):
    dtype: torch.dtype = torch.float32
    gain: float = 1.0

@dataclass
class Hidden(LoraConfig):
    thing: Thing | None = None

@dataclass
class Unregistered(PeftConfig):
    target_modules: list[str] | None = None
    r: int = 1

    def __post_init__(self):
        self.peft_type = "MINE"

@dataclass
class Failing(LoraConfig):
    def __post_init__(self):
        raise KeyError("r")
"""


@pytest.fixture
def own_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_methods.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "peft:own_methods"


def test_ones_own_class_is_a_method_and_what_is_odd_about_it_is_refused(own_methods: str) -> None:
    shape, model, base = build("bert")
    config = AdapterConfig(method=f"{own_methods}.WithDtype", peft={"r": 2}, **PLACES)
    assert set(field_types(config.method)) >= {"r", "gain", "lora_dropout"}
    assert "dtype" not in field_types(config.method)
    before = outputs(model, shape)
    with trained(Adapters(base, shape, config, torch.Generator().manual_seed(0))):
        assert not torch.equal(outputs(model, shape), before)
    assert torch.equal(outputs(model, shape), before)
    with pytest.raises(Refusal, match="the types of Hidden's fields can't be read"):
        field_types(f"{own_methods}.Hidden")
    for name, said in (("Unregistered", "no tuner of the type MINE"), ("Failing", "KeyError: 'r'")):
        with pytest.raises(Refusal, match=said):
            count(shape, AdapterConfig(method=f"{own_methods}.{name}", **PLACES), 0)
