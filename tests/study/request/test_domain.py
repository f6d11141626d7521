"""Tests that a knob is a value, a list, a range or divisors, and that other domains are refused when they are read."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.refusal import Refusal
from krona_tune.study.request.domain import Choice, Divisors, Fixed, Range, parse_domain


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        (3, Fixed(3)),
        (2.5, Fixed(2.5)),
        (False, Fixed(False)),
        ("query+value", Fixed("query+value")),
        ([7], Fixed(7)),
        ([4, 2, 4], Choice((4, 2))),
        (["all", "last 3"], Choice(("all", "last 3"))),
        ({"low": 1e-4, "high": 3e-2, "log": True}, Range(1e-4, 3e-2, True)),
        ({"low": 2, "high": 9, "step": 3}, Range(2, 9, step=3)),
        ({"low": 0, "high": 0.25}, Range(0, 0.25)),
        ({"low": 5, "high": 5}, Fixed(5)),
        ("divisors", Divisors()),
        ({"divisors": {"high": 48}}, Divisors(1, 48)),
        ({"divisors": {"low": 8, "high": 48}}, Divisors(8, 48)),
    ],
)
def test_each_form_is_read_and_its_plain_form_reads_back_to_the_same(written: Any, domain: Any) -> None:
    assert parse_domain(written, "x") == domain
    assert parse_domain(domain.plain(), "x") == domain


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([], "adapter.scale: an empty list leaves nothing to choose; list at least one value"),
        ([3, [1]], "adapter.scale: [1] can't be a choice; list numbers, words, true or false"),
        (None, "adapter.scale: can't be read as a domain: null; write a value, a list of values, {low: …"),
        ({"low": 1}, "adapter.scale: can't be read as a domain: {'low': 1}; write a value"),
        ({"low": None, "hgih": None}, "adapter.scale: unknown key 'hgih', did you mean 'high'?"),
        ({"low": 1, "high": 2, "logg": True}, "unknown key 'logg', did you mean 'log'?"),
        ({"low": 1, "high": 2, "divisors": {}}, "can't be read as a domain"),
        ({"divisor": {"low": 2}}, "unknown key 'divisor', did you mean 'divisors'?"),
        ({"choices": [1, 2]}, "unknown key 'choices'"),
        ({"low": 9, "high": 2}, "adapter.scale: low 9 is above high 2; swap them"),
        ({"low": "1e-3", "high": 2}, "low is '1e-3', not a number; write 0.001"),
        ({"low": "a", "high": 2}, "low is 'a', not a number; write a number"),
        ({"low": True, "high": 2}, "low is true, not a number"),
        ({"low": 1, "high": float("inf")}, "high is inf, not a number; write a number"),
        ({"low": float("nan"), "high": 2}, "low is nan, not a number"),
        ({"low": 1, "high": 2, "log": "yes"}, "log is 'yes'; write true or false"),
        ({"low": 0, "high": 2, "log": True}, "low 0 has no logarithm; start above 0, or leave log out"),
        ({"low": 1, "high": 4, "log": True, "step": 2}, "log and step together have no meaning; leave one out"),
        ({"low": 1, "high": 4, "step": 0}, "step 0 does not fit between low 1 and high 4; make it smaller, above 0"),
        ({"low": 1, "high": 4, "step": -1}, "step -1 does not fit"),
        ({"low": 1, "high": 4, "step": 5}, "step 5 does not fit"),
        (
            {"low": 0, "high": 1, "step": 1e-300},
            "step 1e-300 makes more than 1,000,000 values; make it larger, or",
        ),
        ({"low": 1, "high": 2**40, "step": 3}, "step 3 makes more than 1,000,000 values"),
        ({"divisors": 4}, "can't be read as a domain: {'divisors': 4}"),
        ({"divisors": {"low": 4, "to": 8}}, "unknown key 'to'"),
        ({"divisors": {"low": "x"}}, "adapter.scale: low is 'x', not a size; write a whole number from 1"),
        ({"divisors": {"low": 0}}, "low is 0, not a size"),
        ({"divisors": {"high": True}}, "high is true, not a size"),
        ({"divisors": {"low": 9, "high": 3}}, "low 9 is above high 3; swap them"),
    ],
)
def test_what_can_not_be_drawn_from_is_refused_with_place_value_and_fix(written: Any, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_domain(written, "adapter.scale")
    assert str(refused.value).startswith("adapter.scale: ")
    assert message in str(refused.value)


def test_divisors_keep_to_their_limits() -> None:
    assert Divisors().of(18).values == (1, 2, 3, 6, 9, 18)
    assert Divisors(3, 9).of(18).values == (3, 6, 9)
    assert Divisors(4).of(18).values == (6, 9, 18)
    assert Divisors(10, 17).of(18).values == ()


def test_a_range_is_whole_only_between_whole_ends() -> None:
    assert Range(2, 9).whole
    assert not Range(2, 9.0).whole


def test_the_ends_of_a_range_are_within_it_and_show_its_step() -> None:
    assert Range(0.1, 0.5).ends() == (0.1, 0.5)
    assert Range(8, 32, step=6).ends() == (8, 14, 32)
    assert Range(2, 9, step=3).ends() == (2, 5, 8)
    assert Range(0.0, 0.3, step=0.1).ends() == (0.0, 0.1, 0.3)


STEPPED = [
    (0.0, 0.3, 0.1, [0.0, 0.1, 0.2, 0.3]),
    (0.2, 0.3, 0.1, [0.2, 0.3]),
    (0.0, 0.1 * 3, 0.1, [0.0, 0.1, 0.2, 0.3]),
    (0.0, 1.0, 1 / 7, [each / 7 for each in range(8)]),
    (-0.6, 0.65, 0.6, [-0.6, 0.0, 0.6]),
    (2, 9, 3, [2, 5, 8]),
    (0, 1, 0.25, [0, 0.25, 0.5, 0.75, 1]),
]


@pytest.mark.parametrize(("low", "high", "step", "values"), STEPPED)
def test_a_range_with_steps_draws_both_ends_and_accepts_what_it_draws(
    low: float, high: float, step: float, values: list[float]
) -> None:
    domain = parse_domain({"low": low, "high": high, "step": step}, "x")
    assert isinstance(domain, Range)
    drawn = [domain.at((each + 0.5) / len(values)) for each in range(len(values))]
    assert drawn == pytest.approx(values)
    assert {type(each) for each in drawn} == {int if isinstance(step, int) else float}
    assert [domain.equal_value(each) for each in drawn] == drawn
    assert [domain.equal_value(low + each * step) for each in range(len(values))] == drawn, (
        "as earlier versions recorded them"
    )


@pytest.mark.parametrize("value", [0.25, 0.4, -0.1, 0.3001, "0.3", True, None, float("nan")])
def test_a_range_with_steps_accepts_no_value_between_or_beyond_them(value: Any) -> None:
    assert Range(0.0, 0.3, step=0.1).equal_value(value) is None


def test_a_whole_range_accepts_whole_numbers_in_either_form() -> None:
    assert (Range(2, 9).equal_value(4.0), Range(2, 9).equal_value(4.5), Range(2.0, 9.0).equal_value(4.5)) == (
        4,
        None,
        4.5,
    )


@given(low=st.floats(1e-9, 1e3), ratio=st.floats(1.0001, 1e6))
def test_a_share_of_a_log_range_lies_within_it(low: float, ratio: float) -> None:
    domain = Range(low, low * ratio, log=True)
    assert all(domain.low <= float(domain.at(share)) <= domain.high for share in (0.0, 0.5, 1 - 1e-16))
