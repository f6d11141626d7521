"""Tests that a model is built from its config without weights, or is refused by name."""

import copy

import pytest

from krona_tune.backbones.introspect import introspect
from krona_tune.backbones.meta_model import read_config
from krona_tune.backbones.module_facts import count_norms
from krona_tune.refusal import Refusal
from tests.backbones.families import build
from tests.backbones.introspected import of
from tests.models import CONFIGS, OWN_HEADS


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_in_half_precision_is_read_as_one_in_full(name: str) -> None:
    model_type, values = CONFIGS[name]
    assert introspect({"model_type": model_type, **values, "dtype": "float16"}, name) == of(name)


@pytest.mark.parametrize("family", ["nemotron", "mobilebert", "olmo", "qwen3_next", "stablelm"])
def test_the_norms_of_a_family_are_those_that_are_called_so(family: str) -> None:
    """Their classes have many names, and some have no parameters."""
    _, model = build(family)
    named = (p.numel() for name, p in model.base_model.named_parameters() if "norm" in name.lower())
    assert count_norms(model.base_model) == sum(named)


def test_the_callers_config_stays_as_it_is() -> None:
    config = {"model_type": "llama", **OWN_HEADS, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    before = copy.deepcopy(config)
    introspect(config, "here")
    assert config == before


def test_a_classifiers_backbone_is_what_it_was_before_it_was_tuned() -> None:
    model_type, values = CONFIGS["bert"]
    labels = {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}
    tuned = {"problem_type": "single_label_classification", **labels}
    assert introspect({"model_type": model_type, **values, **tuned}, "here") == of("bert")


def test_a_number_that_json_lacks_is_read_as_transformers_writes_it() -> None:
    limit = [0.0, {"__float__": "Infinity"}]
    found = read_config({"model_type": "nemotron_h", "time_step_limit": limit}, "here").time_step_limit
    assert tuple(found) == (0.0, float("inf"))
    with pytest.raises(Refusal, match="here: describes no nemotron_h"):
        read_config({"model_type": "nemotron_h", "time_step_limit": [0.0, {"__float__": "much"}]}, "here")
