"""Keeps the cost of a fault as properties in pytest's XML."""

from collections.abc import Callable

import pytest

Cost = Callable[..., None]


@pytest.fixture
def cost(record_property: Callable[[str, object], None]) -> Cost:
    """Keeps each fault of a test and the seconds until its study recovered: `tests.faults.table` reads them."""

    def keep(fault: str, seconds: float) -> None:
        record_property(f"fault: {fault}", f"{seconds:.1f}")

    return keep
