"""Tests the form of a new study in a browser, by keyboard alone: what is refused, the plan, and that it begins once."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from krona_tune.record.storage import Storage
from krona_tune.service.access_token import token_for
from krona_tune.service.client import Client
from krona_tune.service.new_study.data_roots import DataRoots
from krona_tune.service.queue.study_queue import StudyQueue
from tests.report.browser import CHROMIUM, PATIENCE, chromium, opened_tab, wait_until_it_fits
from tests.service.serving import served

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def test_a_study_is_begun_by_keyboard(storage: Storage, study_queue: StudyQueue, data: Path) -> None:
    (data / "<b>odd.csv").write_text("<i>text,label\nx,1\n")
    with (
        served(storage, study_queue, DataRoots.at([data])) as address,
        chromium() as browser,
        opened_tab(browser, width=420) as tab,
    ):
        page = tab.page
        page.goto(address)
        page.get_by_label("The token of this service").fill(token_for(address))
        page.keyboard.press("Enter")
        page.get_by_role("button", name="New study").focus()
        page.keyboard.press("Enter")
        name = page.get_by_label("Name", exact=True)
        expect(name).to_be_focused(timeout=PATIENCE)
        page.keyboard.press("Control+A")
        page.keyboard.type("mine")

        page.keyboard.press("Tab")
        expect(page.get_by_label("Data", exact=True)).to_be_focused()
        page.keyboard.type("data/<b>odd")
        column = page.get_by_label("Text", exact=True)
        expect(column.locator("option")).to_have_text(["<i>text", "label"])
        expect(column).to_have_value("<i>text")
        expect(page.get_by_label("Answer", exact=True)).to_have_value("label")
        expect(page.get_by_role("group", name="Tasks")).to_be_hidden()
        page.keyboard.press("ArrowDown")
        expect(column).to_have_value("text")

        page.get_by_label("Trials").focus()
        page.keyboard.type("x")
        page.keyboard.press("Enter")
        refusal = page.locator("#new-trials-refused")
        expect(refusal).to_have_text("'x' is not a number of trials; give a whole number from 1")
        expect(page.get_by_label("Trials")).to_be_focused()
        page.keyboard.press("Control+A")
        page.keyboard.type("3")
        page.keyboard.press("Enter")
        plan = page.locator("#new-study-plan")
        expect(plan).to_contain_text("3 a task by TPE", timeout=PATIENCE)
        expect(plan).to_be_focused()
        expect(refusal).to_be_empty()
        wait_until_it_fits(page, 420)
        assert tab.barriers() == []

        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="New study")).to_be_focused()
        page.keyboard.press("Enter")
        expect(name).to_have_value("mine")
        page.get_by_role("button", name="Submit").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        expect(page.locator("#said")).to_have_text("mine is number 1 of the queue.", timeout=PATIENCE)
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(page.locator("#queue-live").get_by_role("row", name=re.compile("mine"))).to_be_visible()
        assert [entry.name for entry in Client(address).queue().entries] == ["mine"]
        assert [line for line in tab.said if "422" not in line] == []
