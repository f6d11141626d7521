"""Tests that fields of peft's configurations are searched, and that what peft can't take is refused."""

from typing import Any

import pytest

from krona_tune.refusal import Refusal
from krona_tune.study.request.domain import Choice, Fixed, Range
from krona_tune.study.request.trial import check_trial
from tests.search.conftest import space

PEFT = {"method": ["krona", "peft:HiRA", "peft:LoRA"], "a_out": 4, "a_in": 6, "r": [1, 2]}


def test_a_method_of_peft_is_searched_over_the_fields_of_its_configuration() -> None:
    own = {
        "peft:LoRA": {
            "r": 3,
            "lora_alpha": {"low": 1, "high": 8},
            "lora_dropout": {"low": 0, "high": 1},
            "roles": "key",
        }
    }
    made = space("bert", PEFT, own)
    assert made.knobs["peft:HiRA"]["peft_r"] == Choice((1, 2))
    lora = made.knobs["peft:LoRA"]
    assert (lora["peft_r"], lora["roles"]) == (Fixed(3), Fixed("key"))
    assert (lora["peft_lora_alpha"], lora["peft_lora_dropout"]) == (Range(1, 8), Range(0.0, 1.0))
    assert "peft_r" not in made.knobs["krona"]
    point = {"method": "peft:LoRA", **{name: domain.ends()[0] for name, domain in lora.items()}}
    trial = check_trial("cola", 0, point)
    assert trial.adapter.peft == {"r": 3, "lora_alpha": 1, "lora_dropout": 0}
    assert check_trial("cola", 0, trial.params()) == trial
    assert made.parameters(point) == 3 * 3 * (24 + 24)  # a key map of 24 × 24 in each of three layers


@pytest.mark.parametrize(
    ("adapter", "methods", "message"),
    [
        (
            PEFT | {"method": "peft:HiRAA"},
            {},
            "x.yaml: peft:HiRAA: unknown method of peft 'hiraa', did you mean",
        ),
        (PEFT | {"method": "peft:AdaLoRA"}, {}, "x.yaml: peft:AdaLoRA: it must be told of every step"),
        (PEFT | {"q": 3}, {}, "x.yaml: adapter: unknown field of peft:HiRA 'q'"),
        (PEFT | {"r": [0, 1]}, {}, "x.yaml: peft:HiRA: r: 0 fits no adapted map: ValueError: `r` should be a positive"),
        (PEFT | {"r": "divisors"}, {}, "x.yaml: adapter.r: divisors are the sizes of a factor"),
        (PEFT, {"peft:LoRA": {"rank": 3}}, "x.yaml: methods.peft:LoRA: unknown field of peft:LoRA 'rank'"),
        (PEFT, {"peft:LoRA": {"r": "two"}}, "x.yaml: methods.peft:LoRA.r: 'two' is refused"),
        (
            PEFT,
            {"peft:LoRA": {"target_modules": "all"}},
            "target_modules: a study sets it: roles and layers",
        ),
        (PEFT, {"peft:LoRA": {"init_lora_weights": "eva"}}, "'eva': it starts from activations on training data"),
        (
            PEFT,
            {"peft:LoRA": {"init_lora_weights": "gausian"}},
            "'gausian' is refused; write true or false, 'gau",
        ),
        (PEFT, {"peft:LoRA": {"init_lora_weights": 1}}, "init_lora_weights: 1 is refused; write true or false"),
        (PEFT, {"peft:LoRA": {"lora_dropout": float("inf")}}, "lora_dropout: inf is refused; write a finite number"),
        (PEFT, {"peft:lora": {"r": 1}}, "methods.peft:lora: peft:LoRA and peft:lora are one method"),
        (PEFT, {"peft:Nonsense": {"r": 1}}, "x.yaml: peft:Nonsense: unknown method of peft"),
        (PEFT, {"peft:DoRA": {"rrr": 1}}, "x.yaml: methods.peft:DoRA: unknown field of peft:DoRA 'rrr'"),
        (PEFT, {"peft:DoRA": {"use_dora": False}}, "methods.peft:DoRA.use_dora: peft:DoRA sets it"),
        (PEFT, {"peft:AdaMSS": {"use_asa": True}}, "use_asa: true: it must be told of every step"),
        (
            {"method": "peft:LoKr", "decompose_factor": 4},
            {},
            "adapter.decompose_factor: no searched method reads",
        ),
        ({"method": "krona", "peft_r": 2}, {}, "x.yaml: adapter.peft_r: no searched method is one of peft's"),
        ({"method": "krona", "r": 2}, {}, "x.yaml: adapter: unknown key 'r'"),
    ],
)
def test_what_peft_can_not_take_is_refused(adapter: dict[str, Any], methods: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal) as refused:
        space("bert", adapter, methods)
    assert message in str(refused.value)
