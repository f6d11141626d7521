"""Tests that a model is built from its config without weights, or is refused by name."""

import copy
from typing import Any

import pytest

from krona_tune.backbones.introspect import introspect
from krona_tune.refusal import Refusal
from tests.backbones.introspected import of
from tests.models import CONFIGS, ENCODER, OWN_HEADS


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "mamba"}, "transformers neither classifies nor answers with a mamba"),
        ({"model_type": "jamba", "num_hidden_layers": 4}, "mixes tokens without attention"),
        ({"model_type": "clip"}, "a clip reads more than text; give its text model, a clip_text_model"),
        ({"model_type": "xlm"}, "has 2 lists of layers with linear maps, not 1: attentions, ffns"),
        ({"model_type": "robert"}, "unknown model_type 'robert', did you mean 'roberta'"),
        ({"model_type": "bert", **ENCODER, "num_attention_heads": 5}, "describes no bert"),
        ({"model_type": "bert", **ENCODER, "num_hidden_layers": 0}, "has 0 lists of layers"),
        ({"model_type": "llama", **OWN_HEADS, "hidden_size": 10**7, "intermediate_size": 10**7}, "parameters"),
    ],
)
def test_a_model_without_maps_to_adapt_is_refused_by_name(config: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal, match=said):
        introspect(config, "here")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_in_half_precision_is_read_as_one_in_full(name: str) -> None:
    model_type, values = CONFIGS[name]
    assert introspect({"model_type": model_type, **values, "dtype": "float16"}, name) == of(name)


def test_the_callers_config_stays_as_it_is() -> None:
    config = {"model_type": "llama", **OWN_HEADS, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    before = copy.deepcopy(config)
    introspect(config, "here")
    assert config == before
