"""Tests that rungs are at grace·ηᵏ examples below the full budget, and that the full budget is the last."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.study.request.schedule import make_schedule


@pytest.mark.parametrize(
    ("examples", "epochs", "grace", "reduction", "rungs"),
    [
        (340, 9, 1, 3, (340, 1020, 3060)),
        (340, 10, 1, 3, (340, 1020, 3060, 3400)),
        (100, 4, 1, 2, (100, 200, 400)),
        (100, 3, 0.3, 3, (30, 90, 270, 300)),
        (100, 2, 2, 3, (200,)),
        (7, 0.01, 0.01, 2, (1,)),
    ],
)
def test_rungs_are_grace_times_powers_of_the_reduction(
    examples: int, epochs: float, grace: float, reduction: int, rungs: tuple[int, ...]
) -> None:
    made = make_schedule(examples_per_epoch=examples, epochs=epochs, grace_epochs=grace, reduction=reduction)
    assert made.rungs == rungs
    assert made.total_examples == rungs[-1]
    assert made.epochs == pytest.approx(max(epochs, 1 / examples))


@given(per_epoch=st.integers(1, 500), seen=st.integers(1, 2000), batch_size=st.integers(1, 60))
def test_the_step_at_which_examples_were_seen_is_the_first_with_as_many(
    per_epoch: int, seen: int, batch_size: int
) -> None:
    made = make_schedule(examples_per_epoch=per_epoch, epochs=1, grace_epochs=1, reduction=2)
    step = made.step_at(seen, batch_size)
    assert made.examples_at(step - 1, batch_size) < seen <= made.examples_at(step, batch_size)


@given(
    examples=st.integers(1, 5000),
    epochs=st.floats(0.1, 30),
    grace=st.floats(0.01, 30),
    reduction=st.integers(2, 5),
    batch_size=st.integers(1, 200),
)
def test_every_rung_is_reached_after_enough_steps_and_not_many_more(
    examples: int, epochs: float, grace: float, reduction: int, batch_size: int
) -> None:
    made = make_schedule(examples_per_epoch=examples, epochs=epochs, grace_epochs=grace, reduction=reduction)
    assert all(later > earlier for earlier, later in zip(made.rungs, made.rungs[1:], strict=False))
    assert all(later == reduction * earlier for earlier, later in zip(made.rungs, made.rungs[1:-1], strict=False))
    for rung in made.rungs:
        step = made.step_at(rung, batch_size)
        whole, rest = divmod(step, ceil(examples / batch_size))
        seen = whole * examples + min(rest * batch_size, examples)
        assert rung <= seen < rung + batch_size


def test_an_epochs_last_batch_may_be_smaller() -> None:
    made = make_schedule(examples_per_epoch=50, epochs=2, grace_epochs=1, reduction=3)
    assert made.steps_per_epoch(16) == 4
    assert [made.step_at(examples, 16) for examples in (1, 16, 17, 50, 51, 100)] == [1, 1, 2, 4, 5, 8]


@pytest.mark.parametrize(
    ("epochs", "grace", "reports"),
    [(3, 1, (10, 20, 30)), (4, 0.5, (5, 10, 15, 20, 30, 40)), (2.5, 1, (10, 20, 25)), (0.5, 0.5, (5,))],
)
def test_a_trial_is_evaluated_at_its_rungs_and_on_request_after_each_epoch(
    epochs: float, grace: float, reports: tuple[int, ...]
) -> None:
    made = [
        make_schedule(examples_per_epoch=10, epochs=epochs, grace_epochs=grace, reduction=3, every_epoch=each)
        for each in (False, True)
    ]
    assert made[0].rungs == made[1].rungs == made[0].reports
    assert made[1].reports == reports
