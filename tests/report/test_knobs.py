"""Tests what is written of trials' knobs, and which of them differ."""

from krona_tune.report.knobs import knobs_among, knobs_of
from tests.study.final_rows import row


def test_the_two_sizes_of_a_stand_in_one_place() -> None:
    trial = row("000", "search", 0.5, params={"method": "krona", "a_out": 16, "a_in": 24, "scale": 0.12345})
    assert knobs_of(trial) == {"method": "krona", "scale": "0.123", "A": "16×24"}


def test_knobs_differ_also_where_one_trial_has_none_and_the_method_comes_first() -> None:
    trials = [
        row("000", "search", 0.5, params={"rank": 2, "scale": 1.0, "method": "lora"}),
        row("001", "search", 0.5, params={"scale": 1.0, "method": "krona"}),
    ]
    found = knobs_among(trials)
    assert (found.differing, found.fixed) == (("method", "rank"), {"scale": "1"})
    assert knobs_among([]).differing == ()
