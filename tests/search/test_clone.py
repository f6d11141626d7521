"""Tests that a clone's number is read from its id, and which trials have no clones."""

import pytest

from krona_tune.refusal import Refusal
from krona_tune.search.clone import clone_id, clone_number, refuse_uncloneable
from krona_tune.study.kinds import TrialKind
from tests.rows import row


@pytest.mark.parametrize("number", [0, 12])
def test_a_clone_s_number_is_read_from_its_id_and_other_ids_have_none(number: int) -> None:
    trial_id = clone_id("own-clone-3", number)
    assert clone_number(trial_id, "own-clone-3") == number
    assert [clone_number(other, "own") for other in (trial_id, "own-012", "12", "", "own-clone-x")] == [-1] * 5


def test_only_a_trial_of_the_search_is_cloned() -> None:
    refuse_uncloneable(row("cola"), "trial")
    with pytest.raises(Refusal, match=r"^trial: cola-003-s1 is a repeat; clone a trial of the search$"):
        refuse_uncloneable(row("cola", trial_id="cola-003-s1", kind=TrialKind.REPEAT), "trial")
