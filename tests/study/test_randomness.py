"""Tests that a seed gives each use its own stream, equal everywhere and independent of other uses."""

from hypothesis import given
from hypothesis import strategies as st

from krona_tune.study.randomness import stream

ADDRESS = st.lists(st.sampled_from(["data order", "dropout", "head"]) | st.integers(0, 9), max_size=3).map(tuple)


def test_a_stream_is_the_same_on_every_machine() -> None:
    assert stream(0) == 3456079177858693020
    assert stream(7, "data order", 3) == 8233319983299201195


@given(st.integers(-5, 2**40), ADDRESS, st.integers(-5, 2**40), ADDRESS)
def test_two_streams_are_equal_only_at_the_same_address(
    seed: int, address: tuple[str | int, ...], other_seed: int, other: tuple[str | int, ...]
) -> None:
    first, second = stream(seed, *address), stream(other_seed, *other)
    assert 0 <= first < 2**63
    assert (first == second) == ((seed, *address) == (other_seed, *other))
