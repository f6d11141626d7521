"""Tests the served pages in a browser beside a real study: what runs is seen, and steered by mouse or keyboard."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest
from mlflow.tracking import MlflowClient
from playwright.sync_api import Browser, Page, Route, expect

from krona_tune.record.driver_state import read_driver_state, write_driver_state
from krona_tune.record.mlflow_mirror import mlflow_names as words
from krona_tune.record.orders import waiting_orders
from krona_tune.record.parquet_reader import read_orders, read_trials
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.storage import Storage
from krona_tune.refusal import Refusal
from krona_tune.service import Client
from krona_tune.service.access_token import token_for
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import OrderRequest
from krona_tune.study.result import Status
from tests.faults.drivers import ENDLESS, Driver, begun, rungs, running, until_or_end
from tests.record.events import curve, ended, report, started
from tests.report.browser import CHROMIUM, chromium, opened_tab, wait_until_it_fits
from tests.service.conftest import end, make_study, note
from tests.service.serving import served as served_here
from tests.waiting import until
from tests.whole_studies import Home

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

PROGRAM = [sys.executable, "-c", "from krona_tune.cli import program; program()"]
PATIENCE = 900_000
"""How long the browser waits for what a driver does, in milliseconds: other tests may run beside it."""


@dataclass
class Served:
    """A service in a process of its own."""

    address: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def served(home: Home) -> Iterator[Served]:
    """Starts the service of all tests here; the last one kills it."""
    command = home.command("serve", "--storage", str(home.study("x").root.parent), "--port", "0")
    command["args"][:3] = PROGRAM
    process = subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    try:
        line = process.stdout.readline()
        found = re.search(r"http://[\d.]+:\d+", line)
        assert found, line + process.stdout.read()
        process.stdout.readline()
        yield Served(found[0], process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def log_in(page: Page, address: str) -> None:
    """Opens the index, which asks for the token first."""
    page.goto(address)
    page.get_by_label("The token of this service").fill(token_for(address))
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Studies", exact=True)).to_be_visible()


@pytest.fixture(scope="module")
def study(home: Home, bert: Path) -> Iterator[tuple[StudyFolder, Driver]]:
    folder = home.study("watched")
    driver = begun(home, bert, "watched", "cola", 6, *ENDLESS, "--max-concurrent", "2")
    until_or_end(driver, lambda: rungs(folder) >= 2 and running(folder))
    yield folder, driver
    driver.send_signal(signal.SIGKILL)
    driver.communicate(timeout=60)


def test_a_study_is_watched_and_steered_on_its_page(
    study: tuple[StudyFolder, Driver], served: Served, browser: Browser
) -> None:
    folder, driver = study
    with opened_tab(browser) as tab:
        page = tab.page
        page.set_default_timeout(PATIENCE)
        log_in(page, served.address)
        page.get_by_role("link", name="watched").click()
        expect(page.get_by_role("heading", name="Now")).to_be_visible()
        page.evaluate("window.notReloaded = true")
        first = running(folder)[0]
        row = page.locator(f"#run-{first}")
        expect(row).to_be_visible(timeout=PATIENCE)
        expect(page.locator("#running-charts path.js-line").first).to_be_attached()

        page.get_by_role("button", name=f"Stop {first}").click()
        expect(row).to_have_count(0, timeout=PATIENCE)
        orders = page.locator("#orders-table")
        expect(orders.get_by_role("row", name=f"stop {first}")).to_contain_text("done", timeout=PATIENCE)
        expect(page.locator("#task-cola-ranking").get_by_role("row", name=first)).to_contain_text(
            "stopped by user", timeout=PATIENCE
        )

        until(lambda: running(folder))
        source = running(folder)[0]
        _clone_by_keyboard(page, source)
        until(lambda: any(order.made for order in read_orders(folder.results)))
        _stop_what_runs(page, folder)
        expect(page.locator("#run-cola-clone-0")).to_contain_text("a person", timeout=PATIENCE)
        expect(orders.get_by_role("row", name=f"clone {source}")).to_contain_text("done", timeout=PATIENCE)
        assert page.evaluate("window.notReloaded"), "the page was loaded again"
        assert not [line for line in tab.said if not line.startswith("log")], tab.said
        assert all(url.startswith(served.address) or url.startswith(("data:", "blob:")) for url in tab.asked_for)
    rows = {row.trial_id: row for row in read_trials(folder.results)}
    assert rows["cola-clone-0"].params["learning_rate"] == 0.0031
    assert rows[first].status is Status.STOPPED_BY_USER
    until(lambda: {first, "cola-clone-0"} <= _in_mlflow(folder).keys())
    until(lambda: _in_mlflow(folder)[first].get(words.STATUS) == "stopped_by_user")
    assert driver.poll() is None


def _clone_by_keyboard(page: Page, trial: str) -> None:
    button = page.get_by_role("button", name=f"Clone {trial}").first
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    rate = page.get_by_label("learning rate", exact=True)
    rate.focus()
    rate.fill("0.0031")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)


def _stop_what_runs(page: Page, folder: StudyFolder) -> None:
    """Stops the trials that run, so that the clone gets a place."""
    for trial in running(folder):
        button = page.get_by_role("button", name=f"Stop {trial}")
        if trial != "cola-clone-0" and button.count():
            button.click()
            expect(page.locator(f"#run-{trial}")).to_have_count(0, timeout=PATIENCE)


def _in_mlflow(folder: StudyFolder) -> dict[str, dict[str, str]]:
    client = MlflowClient(folder.tracking_uri)
    experiment = client.get_experiment_by_name(folder.name)
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return {run.data.tags[words.TRIAL]: run.data.tags for run in runs if words.TRIAL in run.data.tags}


def test_a_page_is_usable_on_a_telephone_in_the_dark(
    study: tuple[StudyFolder, Driver], served: Served, browser: Browser
) -> None:
    with opened_tab(browser, width=360) as tab:
        tab.page.emulate_media(color_scheme="dark")
        log_in(tab.page, served.address)
        for address in (served.address, f"{served.address}/studies/watched"):
            tab.page.goto(address)
            expect(tab.page.get_by_role("heading", level=1)).to_be_visible()
            wait_until_it_fits(tab.page, 360)
            colour = tab.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            red, green, blue, *alpha = map(int, re.findall(r"\d+", colour))
            assert red + green + blue < 200, colour
            assert alpha != [0], "the page has no colour of its own"


def test_a_service_that_is_killed_while_it_takes_orders_leaves_each_whole_or_none(
    study: tuple[StudyFolder, Driver], served: Served
) -> None:
    """The last test of this study, because it kills the service, and then what trains beside the other tests."""
    folder, driver = study
    answered = {order.id for order in read_orders(folder.results)}
    given: list[str] = []
    client = Client(served.address)
    Thread(target=_kill_after_orders, args=(served.process, given)).start()
    with pytest.raises(Refusal):
        _order_until_refused(client, given)
    assert len(given) >= 3
    until(lambda: not waiting_orders(folder))
    new = {order.id: order for order in read_orders(folder.results) if order.id not in answered}
    assert set(given) <= new.keys()
    assert {order.state for order in new.values()} == {"refused"}
    assert "unreadable" not in {order.what for order in new.values()}
    assert driver.poll() is None, "the end of a service ended the study"
    driver.kill()


def _kill_after_orders(process: subprocess.Popen[str], given: list[str]) -> None:
    until(lambda: len(given) >= 3)
    process.kill()


def _order_until_refused(client: Client, given: list[str]) -> None:
    while True:
        given.append(client.order("watched", OrderRequest(what="continue")).id)


def test_a_clone_is_checked_while_its_form_is_filled_in_and_given_once(
    storage: Storage, running: StudyFolder, browser: Browser
) -> None:
    with served_here(storage) as address, opened_tab(browser, width=420) as tab:
        page = tab.page
        page.goto(f"{address}/studies/running")
        lines = page.locator("#running-charts .scatterlayer path.js-line")
        for losses in ((0.7, 0.625), (0.7, 0.625, 0.5, 0.375)):  # the first makes the chart, the second changes it
            note(running, started(7), 0.5, curve(*losses))
            expect(page.locator("#run-cola-0007")).to_contain_text(str(losses[-1]))
            expect(lines).to_have_attribute("d", re.compile(rf"^M[^L]+(?:L[^L]+){{{len(losses) - 1}}}$"))
        for button in ("Stop cola-0007", "Clone cola-0007"):
            box = page.get_by_role("button", name=button).first.bounding_box()
            assert box
            assert box["x"] + box["width"] <= 420, f"{button} is out of reach"
        page.get_by_role("button", name="Clone cola-0002").first.press("Enter")
        scale = page.get_by_label("scale", exact=True)
        expect(scale).to_have_value("2.5")
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Clone", exact=True).press("Enter")
        expect(dialog.get_by_text("Nothing is changed yet")).to_be_visible()
        scale.fill("-3")
        expect(dialog.get_by_text("Would be refused")).to_be_visible()
        rate = page.get_by_label("learning rate", exact=True)
        was = rate.input_value()
        scale.fill("2.5; 3")
        rate.fill(f"{was}; 0.0041")
        expect(dialog.get_by_text("3 clones can be made.")).to_be_visible()
        rate.fill(was)
        scale.fill("3; 4")
        expect(dialog.get_by_text("2 clones can be made.")).to_be_visible()
        assert not waiting_orders(running)
        dialog.get_by_role("button", name="Clone", exact=True).dblclick()
        expect(dialog).to_have_count(0)
        until(lambda: len(waiting_orders(running)) == 2)
        given = sorted(order.settings for order in waiting_orders(running))
        assert given == [("adapter.scale=3",), ("adapter.scale=4",)]
        wait_until_it_fits(page, 420)
        assert not [line for line in tab.said if "422" not in line and not line.startswith("log")], tab.said


def test_an_order_says_until_its_answer_is_shown_who_answers_it(
    storage: Storage, running: StudyFolder, browser: Browser
) -> None:
    with served_here(storage) as address, opened_tab(browser) as tab:
        page = tab.page
        page.goto(f"{address}/studies/running")
        page.get_by_role("button", name="Pause").click()
        said = page.locator("#said-study")
        expect(said).to_have_text("Ordered: pause. The driver answers within a few seconds.")
        [order] = waiting_orders(running)
        ParquetSink(running.results).ordered(order.model_copy(update={"state": "done", "ended_at": 2.0}))
        expect(said).to_have_text("")
        state = read_driver_state(running)
        assert state
        write_driver_state(running, state.model_copy(update={"training": True}))
        expect(page.locator("#stop")).to_have_count(0)
        page.get_by_role("button", name="Clone cola-0002").first.press("Enter")
        page.get_by_label("scale", exact=True).fill("3")
        page.get_by_role("dialog").get_by_role("button", name="Clone", exact=True).click()
        expect(page.locator("#said")).to_contain_text("it waits for the next driver of the search")


def test_studies_are_chosen_by_keyboard_and_compared_while_one_changes(
    storage: Storage, root: Path, browser: Browser
) -> None:
    first, _ = (make_study(root / name) for name in ("first", "second"))
    with served_here(storage) as address, opened_tab(browser, width=420) as tab:
        page = tab.page
        page.goto(address)
        page.get_by_label("Compare first").press("Space")
        page.get_by_role("button", name="Compare the chosen studies").press("Enter")
        expect(page.get_by_text("Choose 2 studies or more.")).to_be_visible()
        end(ParquetSink(first.results), started(3), 0.8)
        expect(page.get_by_role("row", name="first")).to_contain_text("0.800")
        assert page.get_by_label("Compare first").is_checked(), "a change of the index forgot what was chosen"
        page.get_by_label("Compare second").press("Space")
        page.get_by_role("button", name="Compare the chosen studies").press("Enter")
        expect(page.get_by_role("heading", name="2 studies compared")).to_be_visible()
        end(ParquetSink(first.results), started(4), 0.9)
        expect(page.locator("table:has(#task-cola-caption)").get_by_role("row", name="first")).to_contain_text("0.900")
        wait_until_it_fits(page, 420)
        assert not [line for line in tab.said if not line.startswith("log")], tab.said


def test_the_index_is_sorted_by_what_begins_with_a_number_and_is_none(
    storage: Storage, root: Path, browser: Browser
) -> None:
    for name, day in (("2026-9", 1), ("2026-10", 2), ("2026-8", 3)):
        make_study(root / name, day, synthetic=True)
    with served_here(storage) as address, opened_tab(browser) as tab:
        tab.page.goto(address)
        headings = tab.page.locator("#studies thead")
        for heading, *names in (
            ("Study", "2026-8", "2026-9", "2026-10"),
            ("Begun", "2026-9", "2026-10", "2026-8"),
        ):
            headings.get_by_text(heading, exact=True).click()
            assert tab.page.locator("#studies tbody th").all_text_contents() == names


def test_a_page_that_comes_newer_than_the_service_had_told_is_not_asked_for_again(
    storage: Storage, root: Path, browser: Browser
) -> None:
    folder, asked = make_study(root / "first"), list[str]()

    def end_at_once(number: int, score: float) -> None:
        """In one write: the service never tells of a part."""
        trial = started(number)
        ParquetSink(folder.results).trial_ended(ended(trial, Status.COMPLETED, [report(trial, 2, score)]))

    def changed_once_more(route: Route) -> None:
        if not asked:
            end_at_once(4, 0.8)
        asked.append(route.request.url)
        route.continue_()

    with served_here(storage) as address, opened_tab(browser) as tab:
        tab.page.clock.install()
        tab.page.route("**/studies/first/main", changed_once_more)
        tab.page.goto(f"{address}/studies/first")
        end_at_once(3, 0.7)
        expect(tab.page.locator("table:has(#task-cola-caption)")).to_contain_text("0.800")
        for _ in range(3):
            tab.page.clock.run_for(10_000)
            tab.page.evaluate("fetch(document.body.dataset.source).then(answer => answer.text())")
        assert len(asked) == 1 + 3


def test_a_page_says_where_to_look_when_an_answer_is_lost_and_leads_to_the_login_of_another_token(
    storage: Storage, root: Path, study_queue: StudyQueue, browser: Browser
) -> None:
    make_study(root / "first")
    with served_here(storage, study_queue) as address, opened_tab(browser) as tab:
        page = tab.page
        log_in(page, address)
        page.goto(f"{address}/studies/first")
        page.route("**/orders", lambda route: route.abort())
        page.get_by_text("Change the budget").click()
        form = page.locator('form[data-order="trials"]')
        form.locator("input").fill("4")
        form.get_by_role("button").dblclick()
        expect(form.locator(".said")).to_contain_text("look what it has done before you ask again")
        page.context.clear_cookies()
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # the page listens anew
        expect(page.get_by_label("The token of this service")).to_be_visible()
