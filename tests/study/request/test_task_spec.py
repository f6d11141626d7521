"""Tests that the request for a task of one's own keeps what was written."""

import pytest

from krona_tune.refusal import Refusal
from krona_tune.study.request.loader import dump_spec
from tests.study.request.written_specs import OWN, spec_of


def test_a_share_in_percent_is_no_file() -> None:
    with pytest.raises(Refusal, match=r"20% is the name of a file, not a share; write 0\.2$"):
        spec_of(f"model: m\n{OWN.format('label: b, split: {test: 20%}')}")


def test_a_switch_and_a_number_of_examples_stay_what_they_are() -> None:
    text = "label: b, positive: true, regression: false, split: {test: 50, validation: 0.25}"
    spec = spec_of(f"model: m\n{OWN.format(text)}\nsearch: {{early_stopping: false}}")
    task = spec.own_tasks["t"]
    assert (task.positive, task.split.test, task.split.validation) == ("true", 50, 0.25)
    assert "test: 50\n" in dump_spec(spec)
    assert spec_of(dump_spec(spec)) == spec
