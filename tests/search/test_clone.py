"""Tests that a clone's number is read from its id, and which trials have no clones."""

import pytest

from krona_tune.refusal import Refusal
from krona_tune.search.clone import clone_id, clone_number, clone_of, refuse_uncloneable
from krona_tune.study.kinds import TrialKind
from krona_tune.study.order import OrderRequest
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


@pytest.mark.parametrize(
    "setting",
    [
        "gradient_checkpointing=1",
        "scale='4'",
        "learning_rate='1e-2'",
        "batch_size='32'",
        "batch_size=99999999999999999999",
    ],
)
def test_a_value_that_no_record_can_hold_is_refused(setting: str) -> None:
    order = OrderRequest(what="clone_trial", trial="cola-000", settings=(setting,))
    with pytest.raises(Refusal, match=r"^clone cola-000: "):
        clone_of(order, row("cola", trial_id="cola-000"), 0, lambda config: None)
