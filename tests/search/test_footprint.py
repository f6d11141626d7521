"""Tests that memory is computed from sizes: longer texts, more bytes a number and kept layers take more."""

from krona_tune.search.planning.footprint import PROCESS_BYTES, footprint, largest_point
from tests.search.plans import plan


def test_a_worker_holds_the_weights_and_what_its_steps_keep() -> None:
    asked = plan()
    small, long, wide = (footprint(asked, *sizes) for sizes in ((16, 2), (32, 2), (16, 4)))
    assert small.weights == 2 * asked.geometry.parameters
    assert wide.weights == 2 * small.weights
    assert PROCESS_BYTES + small.weights < small.worker < long.worker
    assert small.params == largest_point(asked.space)
