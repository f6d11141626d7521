"""Tests in a browser what the forms of a study that does not run say: taken, exported, or refused."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from krona_tune.report.html import TEMPLATES
from tests.report.browser import CHROMIUM, chromium, opened_tab

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]
PLACE = "http://service.test/"
FORMS = """<form data-queue="resume" data-study="first"><input name="trials" data-number value="3">
<button>Resume</button><output class="said"></output></form>
<form data-to="/api/exports"><input name="task" value="cola">
<button>Export</button><output class="said"></output></form>
"""
ANSWERS = {"api/queue/resume": (201, '{"id": 7}'), "api/exports": (201, '{"folder": "/there", "download": "/zip"}')}
"""What the service answers to each form."""
REFUSED = (422, '{"place": "trials", "problem": "3 are too many", "fix": ""}')


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as browser, opened_tab(browser) as tab:
        yield tab.page


def opened(page: Page, answers: dict[str, tuple[int, str]]) -> list[object]:
    """Opens the forms and returns what they will have sent."""
    sent: list[object] = []

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix(PLACE)
        if path in answers:
            sent.append(route.request.post_data_json)
            status, text = answers[path]
            route.fulfill(status=status, content_type="application/json", body=text)
        else:
            script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("ask.js", "idle_study.js"))
            route.fulfill(content_type="text/html", body=f"{FORMS}<script>{script}</script>")

    page.route(f"{PLACE}**", answer)
    page.goto(PLACE)
    return sent


def test_what_was_taken_or_exported_is_said_with_where_to_get_it(page: Page) -> None:
    sent = opened(page, ANSWERS)
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".said").first).to_have_text("It is number 7 of the queue, and runs when it has slots.")
    page.get_by_role("button", name="Export").click()
    expect(page.locator(".said").last).to_have_text("It is in /there. Download it")
    expect(page.get_by_role("link", name="Download it")).to_have_attribute("href", "/zip")
    assert sent == [{"name": "first", "trials": 3}, {"task": "cola"}]


def test_a_refusal_is_said_with_its_place(page: Page) -> None:
    opened(page, dict.fromkeys(ANSWERS, REFUSED))
    for place, name in enumerate(("Resume", "Export")):
        page.get_by_role("button", name=name).click()
        expect(page.locator(".said").nth(place)).to_have_text("Refused: trials: 3 are too many")


@pytest.mark.parametrize("place", range(2))
def test_a_browser_that_the_service_no_longer_knows_loads_the_page_again(page: Page, place: int) -> None:
    opened(page, dict.fromkeys(ANSWERS, (401, "{}")))
    with page.expect_navigation():
        page.get_by_role("button").nth(place).click()
    expect(page.locator(".said").nth(place)).to_be_empty()
