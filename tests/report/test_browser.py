"""Tests the page in a real browser: it draws, sorts, switches to dark, prints, requests nothing and is fast."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from krona_tune.backbones.geometry import Stack
from krona_tune.report.pages.comparison_page import write_comparison
from krona_tune.report.pages.study_page import render
from krona_tune.study.folder import StudyFolder
from tests.record.events import manifest
from tests.report.browser import CHROMIUM, Browser, chromium
from tests.report.many_trials import crowd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]

PAGE = manifest("cola", synthetic=True)
T5 = PAGE.model_copy(
    update={
        "model": PAGE.model.model_copy(update={"width": 384, "depths": {Stack.ENCODER: 6, Stack.DECODER: 6}}),
    }
)
COLUMN = "[...document.querySelectorAll('#cola-ranking tbody tr')].map((row) => row.cells[{}].textContent.trim())"
HEADINGS = "[...document.querySelectorAll('#cola-ranking thead th')]"
FIRST_CHART = "document.querySelector('.chart svg.main-svg') !== null"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes the page of a study of 1,000 trials."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(T5, crowd(1000), "model: x\n"), encoding="utf-8")
    return path


def own(asked_for: list[str]) -> set[str]:
    """Returns the requested URLs without those that the page answers itself."""
    return {url for url in asked_for if not url.startswith(("data:", "blob:"))}


def test_every_chart_is_drawn_without_a_complaint_or_a_request(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.draw_everything() == 9
    empty = browser.ask(
        "[...document.querySelectorAll('.chart')].filter((each) => !each.querySelector('path, rect, image')).length"
    )
    assert empty == 0
    assert browser.said == []
    assert own(browser.asked_for) == {page.resolve().as_uri()}


def test_the_browser_is_told_to_load_nothing(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.ask(
        "new Promise((done) => { const image = new Image(); image.onerror = done; image.src = 'file:///x.png'; })"
    )
    assert any("Content Security Policy" in each for each in browser.said)


def test_a_chart_is_drawn_only_when_it_comes_near(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.until(FIRST_CHART)
    assert browser.ask("document.querySelectorAll('.chart:not([data-drawn])').length") >= 4


def test_a_heading_sorts_its_table_both_ways_and_says_so(browser: Browser, page: Path) -> None:
    browser.open(page)
    names = browser.ask(f"{HEADINGS}.map((heading) => heading.textContent.trim())")
    at = names.index("learning rate")
    rates = [float(each) for each in browser.ask(COLUMN.format(at))]
    sort = f"{HEADINGS}[{at}].querySelector('button').click()"
    for order, expected in (("ascending", sorted(rates)), ("descending", sorted(rates, reverse=True))):
        browser.ask(sort)
        assert [float(each) for each in browser.ask(COLUMN.format(at))] == expected
        assert browser.ask(f"{HEADINGS}.map((heading) => heading.getAttribute('aria-sort'))")[at] == order
    assert browser.ask("document.querySelectorAll('#cola-ranking [aria-sort]').length") == 1


def test_the_keyboard_sorts_too(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.ask(f"{HEADINGS}[0].querySelector('button').focus()")
    for kind in ("rawKeyDown", "char", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", text="\r", windowsVirtualKeyCode=13)
    assert browser.ask(f"{HEADINGS}[0].getAttribute('aria-sort')") == "ascending"


def test_all_trials_can_be_shown_and_then_sort_together(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert len(browser.ask(COLUMN.format(0))) == 10
    browser.ask(f"{HEADINGS}[0].querySelector('button').click()")
    browser.ask(f"{HEADINGS}[0].querySelector('button').click()")
    browser.ask("document.querySelector('button.more').click()")
    places = [int(each) for each in browser.ask(COLUMN.format(0))]
    assert places == list(range(1000, 0, -1))


def test_dark_follows_the_system_and_the_button(browser: Browser, page: Path) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    colours = []
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.open(page)
        browser.ask("try { localStorage.clear() } catch {}; delete document.documentElement.dataset.theme")
        colours.append(browser.ask(ground))
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]
    browser.open(page)
    browser.ask("document.getElementById('theme').click()")
    assert browser.ask(ground) == colours[0]
    assert browser.ask("document.getElementById('theme').textContent") == "Dark colours"
    browser.ask("try { localStorage.clear() } catch {}")
    browser.call("Emulation.setEmulatedMedia", features=[])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, page: Path, scheme: str) -> None:
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(page)
    assert browser.ask(WORST_CONTRAST) >= 4.5
    browser.call("Emulation.setEmulatedMedia", features=[])


def test_a_narrow_page_does_not_scroll_sideways(browser: Browser, page: Path) -> None:
    browser.open(page, width=480)
    browser.draw_everything()
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_prints_with_all_its_charts(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    browser.until(FIRST_CHART)
    browser.print_to(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert browser.ask("document.querySelectorAll('.chart:not([data-drawn])').length") == 0


def test_a_thousand_trials_are_light_and_draw_what_is_in_view_first(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.until(FIRST_CHART)
    assert browser.ask("document.querySelectorAll('.chart:not([data-drawn])').length") > 0
    assert page.stat().st_size < 4_000_000


def test_a_comparison_is_drawn_and_quiet(browser: Browser, study: StudyFolder, tmp_path: Path) -> None:
    other = StudyFolder(tmp_path / "second-study")
    other.root.mkdir()
    manifest("cola").write(other.manifest)
    path = write_comparison([study, other], tmp_path / "comparison.html")
    browser.open(path)
    assert browser.draw_everything() == 1
    assert browser.said == []


WORST_CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const colour = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([red, green, blue]) => [red, green, blue]
    .map((each) => each / 255)
    .map((each) => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = colour(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *:not(script, style, template, .chart *, noscript)")]
    .filter((each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  return Math.min(...texts.map((each) => {
    const [one, two] = [luminance(colour(getComputedStyle(each).color)), luminance(ground(each))];
    return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  }));
})()"""
"""The lowest contrast (WCAG) between a text of the page and its background, without `.chart`."""
