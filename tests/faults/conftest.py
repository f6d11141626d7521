"""Provides a place for each file's studies, a backbone, and the cost of a fault as properties in pytest's XML."""

from collections.abc import Callable

import pytest

from tests.search.test_study import bert, home  # noqa: F401

Cost = Callable[..., None]


@pytest.fixture
def cost(record_property: Callable[[str, object], None]) -> Cost:
    """Keeps a fault and the seconds until the study recovered: `tests.faults.table` reads them."""

    def keep(fault: str, seconds: float) -> None:
        record_property("fault", fault)
        record_property("seconds", f"{seconds:.1f}")

    return keep
