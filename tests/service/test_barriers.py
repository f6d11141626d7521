"""Tests with axe that nothing on a served page is in the way of a reader, in light and dark, wide and narrow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from krona_tune.record.storage import Storage
from krona_tune.study.folder import StudyFolder
from tests.report.browser import CHROMIUM, Tab, chromium, opened_tab
from tests.service.conftest import make_study
from tests.service.serving import served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]
LOOKS: list[tuple[Literal["light", "dark"], int]] = [("light", 1400), ("dark", 800), ("light", 420)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def barriers(tab: Tab, address: str) -> dict[str, list[str]]:
    """Returns what is in the way on each page, and on a study's page with the form of a clone."""
    page, found = tab.page, {}
    for path in ("/", "/studies/running", "/compare?study=first&study=running", "/studies/missing"):
        page.goto(f"{address}{path}")
        found[path] = tab.barriers()
    page.goto(f"{address}/studies/running")
    page.get_by_role("button", name="Clone cola-0002").first.click()
    page.get_by_role("dialog").get_by_label("scale", exact=True).fill("-3")
    page.get_by_role("dialog").get_by_text("Would be refused").wait_for()
    return {**found, "the form of a clone": tab.barriers()}


@pytest.mark.slow
@pytest.mark.parametrize(("colours", "width"), LOOKS)
def test_nothing_is_in_the_way_of_a_reader(
    browser: Browser, storage: Storage, root: Path, running: StudyFolder, colours: Literal["light", "dark"], width: int
) -> None:
    make_study(root / "first")
    with served(storage) as address, opened_tab(browser, width=width) as tab:
        tab.page.emulate_media(color_scheme=colours)
        found = barriers(tab, address)
    assert not any(found.values()), found
