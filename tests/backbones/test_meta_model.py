"""Tests that a model is built from its config without weights, or is refused by name."""

import copy

import pytest

from krona_tune.backbones.introspect import introspect
from krona_tune.backbones.meta_model import read_config
from krona_tune.refusal import Refusal
from tests.backbones.introspected import of
from tests.models import CONFIGS, OWN_HEADS


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_in_half_precision_is_read_as_one_in_full(name: str) -> None:
    model_type, values = CONFIGS[name]
    assert introspect({"model_type": model_type, **values, "dtype": "float16"}, name) == of(name)


def test_the_callers_config_stays_as_it_is() -> None:
    config = {"model_type": "llama", **OWN_HEADS, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    before = copy.deepcopy(config)
    introspect(config, "here")
    assert config == before


def test_a_number_that_json_lacks_is_read_as_transformers_writes_it() -> None:
    limit = [0.0, {"__float__": "Infinity"}]
    found = read_config({"model_type": "nemotron_h", "time_step_limit": limit}, "here").time_step_limit
    assert tuple(found) == (0.0, float("inf"))
    with pytest.raises(Refusal, match="here: describes no nemotron_h"):
        read_config({"model_type": "nemotron_h", "time_step_limit": [0.0, {"__float__": "much"}]}, "here")
