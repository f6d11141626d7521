"""A place for each file's studies, a backbone for them, and what a fault cost, as properties in pytest's XML."""

from collections.abc import Callable

import pytest

from tests.search.test_study import bert, home  # noqa: F401

Cost = Callable[..., None]


@pytest.fixture
def cost(record_property: Callable[[str, object], None]) -> Cost:
    """Keeps which fault was done and the seconds until the study had got over it: `tests.faults.table` reads them."""

    def keep(fault: str, seconds: float) -> None:
        record_property("fault", fault)
        record_property("seconds", f"{seconds:.1f}")

    return keep
