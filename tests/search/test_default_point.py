"""Tests that the default configuration is the first taught point, else a feasible one at the centre of the space."""

import pytest

from krona_tune.search.planning import default_point as default_point_module
from krona_tune.search.planning.default_point import default_point
from krona_tune.search.planning.teaching import read_teaching
from tests.search.conftest import space

RATE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
SPACE = space("bert", {"a_out": "divisors", "a_in": "divisors", "scale": [1.0, 2.0, 4.0]}, training=RATE)


def test_the_first_taught_point_is_the_default() -> None:
    taught = read_teaching(SPACE)
    assert default_point(SPACE, taught) == taught.points[0]


def test_untaught_it_is_the_centre() -> None:
    point = default_point(SPACE)
    assert point is not None
    assert (point["scale"], point["learning_rate"]) == (2.0, pytest.approx(1e-3))
    assert SPACE.holds(point)


def test_a_space_with_a_point_that_fits_has_a_default_however_far_from_its_centre(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(default_point_module, "DRAWS", 1)
    sizes = sorted(SPACE.sizes())
    limited = space("bert", {"a_out": "divisors", "a_in": "divisors"}, training=RATE, max_params=sizes[0])
    point = default_point(limited)
    assert point is not None
    assert limited.feasible(point)


def test_if_the_centre_does_not_fit_a_point_near_it_does() -> None:
    sizes = sorted(SPACE.sizes())
    limited = space("bert", {"a_out": "divisors", "a_in": "divisors"}, training=RATE, max_params=sizes[0])
    point = default_point(limited)
    assert point is not None
    assert limited.feasible(point)
    assert default_point(SPACE, read_teaching(space("bert", {"method": "lora", "rank": [1, 2]}))) == default_point(
        SPACE
    )
