"""Tests that a trial is checked when made, can't change, and is identified by the hash of all its values."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from krona_tune.backbones.geometry import Role, Stack
from krona_tune.study.request.trial import SECTION_OF, AdapterConfig, TrainingConfig, TrialConfig, check_trial

OTHER: dict[str, Any] = {
    "method": "krona_b",
    "scale": 2.5,
    "a_out": 4,
    "terms": 4,
    "scaling": "stable",
    "init": "cdka",
    "a_in": 6,
    "roles": "key",
    "stacks": "decoder",
    "layers": "last 2",
    "layer_norms": True,
    "rank": 5,
    "decompose_factor": 6,
    "bottleneck": 7,
    "phm": 8,
    "learning_rate": 1e-4,
    "batch_size": 7,
    "weight_decay": 0.01,
    "warmup": 0.2,
    "clip_norm": 0.5,
    "dropout": 0.3,
    "dropout_layers": "adapted",
    "accumulation": 4,
    "gradient_checkpointing": True,
}


def test_each_knob_has_one_name_and_one_section() -> None:
    assert set(SECTION_OF) == set(OTHER) == {*AdapterConfig.model_fields, *TrainingConfig.model_fields} - {"peft"}
    assert not set(AdapterConfig.model_fields) & set(TrainingConfig.model_fields)


@pytest.mark.parametrize("name", OTHER)
def test_the_fingerprint_changes_with_each_knob(name: str) -> None:
    plain, changed = check_trial("rte", 5, {}), check_trial("rte", 5, {name: OTHER[name]})
    assert plain.params()[name] != changed.params()[name] == OTHER[name]
    assert plain.fingerprint != changed.fingerprint


def test_knobs_that_were_added_leave_the_fingerprint_of_an_earlier_study_as_it_was() -> None:
    """The digits are those of the version without sums of products."""
    trial = check_trial("rte", 5, {"a_out": 24, "a_in": 16, "scale": 4.0})
    assert trial.fingerprint == "d682b219e29b"


def test_the_fingerprint_changes_with_task_seed_and_kind_and_with_nothing_else() -> None:
    made = [
        check_trial("rte", 5, OTHER),
        check_trial("cola", 5, OTHER),
        check_trial("rte", 6, OTHER),
        check_trial("rte", 5, OTHER, "baseline"),
    ]
    assert len({one.fingerprint for one in made}) == 4
    assert check_trial("rte", 5, dict(reversed(OTHER.items()))).fingerprint == made[0].fingerprint
    assert len(made[0].fingerprint) == 12
    assert int(made[0].fingerprint, 16) >= 0


@given(st.sets(st.sampled_from(sorted(OTHER))))
def test_a_trials_params_are_what_makes_it_again(names: set[str]) -> None:
    made = check_trial("rte", 5, {name: OTHER[name] for name in names})
    assert check_trial("rte", 5, made.params()) == made


@pytest.mark.parametrize(
    "owner", [check_trial("rte", 5, {}), check_trial("rte", 5, {}).adapter, check_trial("rte", 5, {}).training]
)
def test_a_trial_can_not_be_changed(owner: Any) -> None:
    field = next(iter(type(owner).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(owner, field, "other")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"scale": 0}, "greater than 0"),
        ({"scale": float("inf")}, "finite"),
        ({"a_out": 0}, "greater than or equal to 1"),
        ({"a_in": 2.5}, "valid integer"),
        ({"roles": "query+quary"}, "unknown role 'quary', did you mean 'query'?"),
        ({"stacks": "both"}, "unknown stack 'both'"),
        ({"layers": "some"}, "can't be read: 'some'"),
        ({"learning_rate": float("nan")}, "finite"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"weight_decay": -0.1}, "greater than or equal to 0"),
        ({"warmup": 1}, "less than 1"),
        ({"clip_norm": float("inf")}, "finite"),
        ({"dropout": 1.0}, "less than 1"),
        ({"layer_norms": "some"}, "write true, false or adapted"),
        ({"dropout_layers": "some"}, "'all' or 'adapted'"),
    ],
)
def test_a_value_out_of_its_range_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        check_trial("rte", 5, params)
    assert message in str(refused.value)


def test_an_unknown_kind_or_key_is_refused() -> None:
    with pytest.raises(
        ValidationError, match="'search', 'baseline', 'finalist', 'repeat', 'full_train' or 'full_data'"
    ):
        check_trial("rte", 5, {}, "final")
    with pytest.raises(ValidationError, match="Extra inputs"):
        TrialConfig.model_validate({"task": "rte", "seed": 1, "alpha": 4})
    with pytest.raises(KeyError, match="alpha"):
        check_trial("rte", 5, {"alpha": 4})


def test_roles_and_stacks_are_read_once_as_sets() -> None:
    adapter = AdapterConfig(roles="query + cross_value", stacks="decoder")
    assert adapter.role_set == {Role.QUERY, Role.CROSS_VALUE}
    assert adapter.stack_set == {Stack.DECODER}


def test_a_field_of_peft_is_a_knob_of_its_own() -> None:
    """A column of real numbers gives 8.0 back for an 8; a study without such fields keeps its fingerprints."""
    eight, as_read = (check_trial("rte", 5, {"method": "peft:HiRA", "peft_r": r}) for r in (8, 8.0))
    assert eight.fingerprint == as_read.fingerprint
    assert as_read.adapter.peft == {"r": 8}
    assert eight.fingerprint != check_trial("rte", 5, {"method": "peft:HiRA", "peft_r": 4}).fingerprint
    assert eight.params()["peft_r"] == 8
    assert "peft" not in eight.params()
    assert check_trial("rte", 5, {}).fingerprint == "748f2f745a35"
