"""Tests the page in a real browser: it draws, sorts, switches to dark, prints, requests nothing and is fast."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import Records
from krona_tune.report.comparison_page import write_comparison
from krona_tune.report.study_page import render
from krona_tune.report.study_results import StudyResults
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status, TrialResult
from tests.record.events import ended, manifest, started
from tests.report.browser import CHROMIUM, Tab, chromium, opened_tab, wait_until_it_fits
from tests.report.finalists import final_rows
from tests.report.many_trials import T5_STUDY, crowd
from tests.search.searched import searched
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]

UNDRAWN = ".chart:not([data-drawn])"
GROUND = "getComputedStyle(document.documentElement).backgroundColor"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    with opened_tab(browser) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes the page of a study of 1,000 trials."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(StudyResults(manifest=T5_STUDY, recorded=crowd(1000), spec="model: x\n")), encoding="utf-8")
    return path


def own(asked_for: list[str]) -> set[str]:
    """Returns the requested URLs without those that the page answers itself."""
    return {url for url in asked_for if not url.startswith(("data:", "blob:"))}


def headings(tab: Tab) -> Locator:
    return tab.page.locator("#task-cola-ranking thead th")


def column(tab: Tab, at: int) -> list[str]:
    """Returns the texts of a column of the ranking, from top to bottom."""
    return [
        text.strip()
        for text in tab.page.locator(f"#task-cola-ranking tbody tr > :nth-child({at + 1})").all_text_contents()
    ]


def test_every_chart_is_drawn_without_a_complaint_or_a_request(tab: Tab, page: Path) -> None:
    tab.open(page)
    assert tab.draw_everything() == 9
    charts, drawn = tab.page.locator(".chart"), tab.page.locator("path, rect, image")
    assert charts.filter(has=drawn).count() == charts.count()
    assert tab.said == []
    assert own(tab.asked_for) == {page.resolve().as_uri()}


@pytest.mark.slow
@pytest.mark.parametrize(("colours", "width"), [("light", 1400), ("dark", 420)])
def test_nothing_is_in_the_way_of_a_reader(tab: Tab, page: Path, colours: Literal["light", "dark"], width: int) -> None:
    tab.page.emulate_media(color_scheme=colours)
    tab.page.set_viewport_size({"width": width, "height": 900})
    tab.open(page)
    tab.draw_everything()
    assert tab.barriers() == []
    tab.page.add_style_tag(content="td { color: #888 !important; background: #999 !important }")
    assert any("color-contrast" in each for each in tab.barriers()), "axe does not see what can't be read"


def test_the_browser_is_told_to_load_nothing(tab: Tab, page: Path) -> None:
    tab.open(page)
    tab.page.evaluate(
        "new Promise((done) => { const image = new Image(); image.onerror = done; image.src = 'file:///x.png'; })"
    )
    assert any("Content Security Policy" in each for each in tab.said)


def test_an_error_in_the_page_is_noticed(tab: Tab, page: Path) -> None:
    tab.open(page)
    tab.page.evaluate("new Promise((done) => { setTimeout(() => { setTimeout(done); missing(); }); })")
    assert [each for each in tab.said if "missing is not defined" in each]


def test_a_chart_is_drawn_only_when_it_comes_near(tab: Tab, page: Path) -> None:
    tab.open(page)
    tab.wait_for_first_chart()
    assert tab.page.locator(UNDRAWN).count() >= 4


def test_a_heading_sorts_its_table_both_ways_and_says_so(tab: Tab, page: Path) -> None:
    tab.open(page)
    at = [text.strip() for text in headings(tab).all_text_contents()].index("learning rate")
    heading = headings(tab).nth(at)
    rates = [float(each) for each in column(tab, at)]
    for order, expected in (("ascending", sorted(rates)), ("descending", sorted(rates, reverse=True))):
        heading.get_by_role("button").click()
        assert [float(each) for each in column(tab, at)] == expected
        assert heading.get_attribute("aria-sort") == order
    assert tab.page.locator("#task-cola-ranking [aria-sort]").count() == 1


def test_the_keyboard_sorts_too(tab: Tab, page: Path) -> None:
    tab.open(page)
    headings(tab).first.get_by_role("button").press("Enter")
    assert headings(tab).first.get_attribute("aria-sort") == "ascending"


def test_all_trials_can_be_shown_and_then_sort_together(tab: Tab, page: Path) -> None:
    tab.open(page)
    assert len(column(tab, 0)) == 10
    headings(tab).first.get_by_role("button").click()
    headings(tab).first.get_by_role("button").click()
    tab.page.locator("button.more").first.click()
    assert [int(each) for each in column(tab, 0)] == list(range(1000, 0, -1))


def test_dark_follows_the_system_and_the_button(tab: Tab, page: Path) -> None:
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    colours = []
    for scheme in schemes:
        tab.page.emulate_media(color_scheme=scheme)
        tab.open(page)
        colours.append(tab.page.evaluate(GROUND))
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]
    tab.page.locator("#theme").click()
    assert tab.page.evaluate(GROUND) == colours[0]
    assert tab.page.locator("#theme").text_content() == "Dark colours"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(tab: Tab, page: Path, scheme: Literal["light", "dark"]) -> None:
    tab.page.emulate_media(color_scheme=scheme)
    tab.open(page)
    assert tab.page.evaluate(WORST_CONTRAST) >= 4.5


def test_a_narrow_page_does_not_scroll_sideways(browser: Browser, page: Path) -> None:
    with opened_tab(browser, width=480) as narrow:
        narrow.open(page)
        narrow.draw_everything()
        wait_until_it_fits(narrow.page, 480)


def test_a_legend_hides_nothing_of_its_chart_in_a_narrow_window(browser: Browser, tmp_path: Path) -> None:
    rows = tuple(replace(each, train_seconds=60.0) for each in (*final_rows(), *by_ends()))
    path = tmp_path / "report.html"
    results = StudyResults(manifest=manifest("rte"), recorded=Records(trials=rows, reports=()), spec="model: x\n")
    path.write_text(render(results), encoding="utf-8")
    with opened_tab(browser, width=360) as narrow:
        narrow.open(path)
        assert narrow.draw_everything() == 4
        places = narrow.page.locator(".chart").filter(has=narrow.page.locator(".legend"))
        assert places.count() == 4
        until(lambda: all(low <= top and plot >= 64 for low, top, plot in places.evaluate_all(LEGENDS)))
        narrow.page.set_viewport_size({"width": 1280, "height": 900})
        until(lambda: places.first.evaluate("place => place.style.height") == "150px")


def by_ends() -> list[TrialResult]:
    ends = (Status.COMPLETED, Status.STOPPED_EARLY, Status.STOPPED_BY_USER, Status.FAILED)
    return [searched(10 + number, 0.5, status=each) for number, each in enumerate(ends)]


LEGENDS = """places => places.map((place) => {
  const [legend, plot] = [".legend", ".nsewdrag"].map((part) => place.querySelector(part).getBoundingClientRect());
  return [legend.bottom, plot.top, plot.height];
})"""
"""The lower end of each chart's legend, the upper one of its plot and the height of that, in pixels."""


def test_the_page_prints_with_all_its_charts(tab: Tab, page: Path, tmp_path: Path) -> None:
    tab.open(page)
    tab.wait_for_first_chart()
    tab.page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert tab.page.locator(UNDRAWN).count() == 0


def test_a_thousand_trials_are_light_and_draw_what_is_in_view_first(tab: Tab, page: Path) -> None:
    tab.open(page)
    tab.wait_for_first_chart()
    assert tab.page.locator(UNDRAWN).count() > 0
    assert page.stat().st_size < 4_000_000


def test_a_comparison_is_drawn_and_quiet(tab: Tab, study: StudyFolder, tmp_path: Path) -> None:
    other = StudyFolder(tmp_path / "second-study")
    other.root.mkdir()
    manifest("cola").write(other.manifest)
    ParquetSink(other.results).trial_ended(ended(started(0), Status.DIVERGED, []))
    tab.open(write_comparison([study, other], tmp_path / "comparison.html"))
    assert tab.draw_everything() == 1
    assert tab.said == []


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
