"""Tests that a value is computed once as long as what it comes from is the same, and not too often."""

import pytest

from krona_tune.service import kept_values
from krona_tune.service.kept_values import Kept


def test_a_value_is_computed_again_only_for_another_stamp() -> None:
    kept: Kept[int] = Kept(2)
    made = iter(range(10))
    found = [kept.get("a", stamp, lambda: next(made)) for stamp in ("x", "x", "y", "y")]
    assert found == [("x", 0), ("x", 0), ("y", 1), ("y", 1)]


def test_the_least_asked_is_dropped() -> None:
    kept: Kept[str] = Kept(2)
    for key in ("a", "b", "a", "c", "a", "b"):
        kept.get(key, "", lambda key=key: key)  # type: ignore[misc]
    assert kept.get("a", "", lambda: "new") == ("", "a")
    assert kept.get("c", "", lambda: "new") == ("", "new")


def test_a_young_value_is_returned_although_it_is_old_news(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(kept_values.time, "monotonic", lambda: now[0])
    kept: Kept[str] = Kept(2, seconds=3.0)

    def slow() -> str:
        now[0] += 2.0
        return "slow"

    assert kept.get("a", "x", slow) == ("x", "slow")
    now[0] += 5.9
    assert not kept.is_due("a")
    assert kept.get("a", "y", lambda: "new") == ("x", "slow")
    now[0] += 0.2
    assert kept.is_due("a")
    assert kept.get("a", "y", lambda: "new") == ("y", "new")


def test_a_failure_is_not_kept() -> None:
    kept: Kept[float] = Kept(2)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", "x", lambda: 1 / 0)
    assert kept.get("a", "x", lambda: 2.0) == ("x", 2.0)
