"""Makes the pictures of pages in docs/pictures from a real study of the miniature, which takes some minutes.

`python -m tests.docs.pictures` runs the study in a queue, waits until its page has something to show, and when it has
ended. It needs Chromium.
"""

import tempfile
from functools import partial
from pathlib import Path

from krona_tune.record.storage import storage_at
from krona_tune.service import Client, NewStudy
from krona_tune.service.access_token import token_for
from krona_tune.service.new_study.data_roots import DataRoots
from krona_tune.service.queue.capacity import CapacitySource
from krona_tune.service.queue.drivers import LocalDrivers
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.study.order import OrderRequest
from tests.docs.blocks import ROOT
from tests.report.browser import Tab, chromium, opened_tab
from tests.service.serving import served
from tests.waiting import until

PICTURES = ROOT / "docs" / "pictures"
STUDY = "demo"
TASK, TRIALS, CHARTS = "cola", 16, 4
"""The task whose first charts are shown, and how many."""
LIVE_WIDTH, WIDTH = 1100, 1200
PATIENCE = 1_500.0
"""How long the study may take to its next picture, in seconds."""
BEGUN = 7
"""How many trials have ended when the live page is taken."""
ONLY_CHARTS = """([task, charts]) => {
  const shown = document.getElementById(task).closest("section");
  const won = document.querySelector('[aria-label="What won"]');
  for (const each of document.querySelectorAll("main > section")) each.hidden = each !== shown && each !== won;
  won.querySelectorAll(".charts").forEach((each) => each.remove());
  const figures = [...shown.querySelectorAll("figure")].slice(0, charts);
  const place = document.createElement("div");
  place.className = "charts";
  place.append(...figures);
  shown.replaceChildren(place);
}"""
"""Leaves of a drawn page what won and a task's first charts."""


def main() -> None:
    """Makes both pictures."""
    with tempfile.TemporaryDirectory(prefix="krona-") as place:
        storage = storage_at(str(Path(place, "studies")))
        queue = StudyQueue(storage, LocalDrivers(Path(place, "queue")), CapacitySource())
        with served(storage, queue, DataRoots.at([Path(place)])) as address:
            client = Client(address)
            model = client.offer().model[0].value
            asked = NewStudy(
                name=STUDY, data="mini", tasks=(TASK, "rte"), model=model, space="mini", trials=str(TRIALS)
            )
            client.begin(asked)
            with chromium() as browser, opened_tab(browser, LIVE_WIDTH) as tab:
                until(partial(_has_begun, client), PATIENCE)
                _take_live_page(tab, address, client)
            until(lambda: client.study(STUDY).state == "finished", PATIENCE)
            with chromium() as browser, opened_tab(browser, WIDTH) as tab:
                tab.open(storage.study(STUDY).page)
                tab.draw_everything()
                tab.page.evaluate(ONLY_CHARTS, [TASK, CHARTS])
                tab.page.screenshot(path=PICTURES / "study_page.png", full_page=True)


def _has_begun(client: Client) -> bool:
    """Returns whether enough trials have ended, once the study is there."""
    there = {study.name: study for study in client.studies()}
    return STUDY in there and (there[STUDY].ended or 0) >= BEGUN


def _take_live_page(tab: Tab, address: str, client: Client) -> None:
    """Clones a trial that runs, and takes the part about the present as soon as the clone runs too."""
    page = tab.page
    page.goto(address)
    page.get_by_label("The token of this service").fill(token_for(address))
    page.keyboard.press("Enter")
    page.get_by_role("link", name=STUDY, exact=True).first.click()
    trial = client.trials(STUDY, task=TASK)[-1]["trial_id"]
    setting = "training.learning_rate=0.005"
    client.order(STUDY, OrderRequest(what="clone_trial", trial=trial, settings=(setting,)))
    page.locator(f"#run-{TASK}-clone-0").wait_for(timeout=1000 * PATIENCE)
    bottom = page.locator("#now").bounding_box()
    assert bottom
    clip = {"x": 0, "y": 0, "width": LIVE_WIDTH, "height": bottom["y"] + bottom["height"] + 20}
    page.screenshot(path=PICTURES / "live_page.png", full_page=True, clip=clip)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
