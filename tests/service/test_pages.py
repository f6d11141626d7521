"""Tests that the pages show what the records hold, as the written report does, and survive studies that are damaged."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs
from starlette.testclient import TestClient

from krona_tune.record.orders import give_order
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.report.study_page import write_report
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import OrderRequest
from krona_tune.study.result import Status
from tests.record.events import ended, manifest, started
from tests.report.conftest import OUTBURST
from tests.report.test_study_page import BY_LOSS, NEGATED, Page, write_scores
from tests.service.conftest import drive, make_study


def page_of(html: str) -> Page:
    page = Page()
    page.feed(html)
    assert page.open == []
    return page


def sections(html: str) -> dict[str, str]:
    """Returns the parts of the page's main element by their headings' ids, without the buttons of the served page."""
    main = re.sub(r" <button[^>]*data-clone.*?</button>", "", html[html.index("<main") : html.index("</main>")])
    found = re.findall(r'<section aria-label(?:ledby)?="([^"]+)">.*?</section>', main, re.DOTALL)
    texts = re.findall(r'<section aria-label(?:ledby)?="[^"]+">.*?</section>', main, re.DOTALL)
    return dict(zip(found, texts, strict=True))


def test_the_index_lists_the_newest_first_with_what_each_study_is_and_found(
    client: TestClient, study: StudyFolder, running: StudyFolder
) -> None:
    text = page_of(client.get("/").text).text
    assert text.index("running running") < text.index("first stopped")
    assert "running running 3 of 9 1 min 15 s 0.600 synthetic 0.200 +0.400 COLA" in text
    assert re.search(r"first stopped 3 of \d+ – 0.600 0.200 \+0.400 COLA 0.00 2026-01-01 03:04 UTC", text)


def test_a_paused_study_says_so(client: TestClient, study: StudyFolder) -> None:
    lock = drive(study, paused=True)
    assert "first paused 3 of 9" in page_of(client.get("/").text).text
    text = page_of(client.get("/studies/first").text).text
    lock.release()
    assert "No further trial begins until the study continues" in text
    assert "Continue" in text


def test_a_study_that_can_not_be_read_says_why_and_breaks_no_other(
    client: TestClient, root: Path, study: StudyFolder
) -> None:
    damaged = make_study(root / "damaged", 3)
    damaged.manifest.write_text("{")
    unreadable = make_study(root / "unreadable", 4)
    (unreadable.results / "trials.parquet").write_bytes(b"PAR1")
    gone = make_study(root / "gone", 5)
    gone.spec.unlink()
    text = page_of(client.get("/").text).text
    assert "damaged unreadable manifest.json: is damaged" in text
    assert "unreadable unreadable trials.parquet: can't be read" in text
    assert "first stopped" in text
    for name in ("damaged", "unreadable"):
        answer = client.get(f"/studies/{name}")
        assert answer.status_code == 422
        assert "json" in answer.text or "parquet" in answer.text
    assert client.get("/studies/gone").status_code == 200


def test_an_empty_storage_has_an_index(client: TestClient) -> None:
    assert "No study is here yet" in client.get("/").text


def test_a_served_page_has_the_sections_of_the_written_report(client: TestClient, study: StudyFolder) -> None:
    give_order(study, OrderRequest(what="pause"), by="ann")
    served, written = (
        sections(client.get("/studies/first").text),
        sections(write_report(study).read_text(encoding="utf-8")),
    )
    assert served == written
    assert {"What won", "orders", "tasks", "cola", "cost", "reproduce"} <= set(written)
    assert "ann" in written["orders"]


def test_the_index_averages_what_has_a_mean_and_a_task_alone_has_its_own_score(
    client: TestClient, root: Path, study: StudyFolder
) -> None:
    mixed, alone, neither = (StudyFolder(root / name) for name in ("mixed", "alone", "neither"))
    write_scores(mixed, {"wiki": -12.3, "mrpc": 0.7, "sst2": 0.9}, wiki=NEGATED)
    write_scores(alone, {"wiki": -12.3}, wiki=NEGATED)
    write_scores(neither, {"wiki": -12.3, "news": -2.3}, wiki=NEGATED, news=BY_LOSS)
    best = {each["name"]: each["best"] for each in client.get("/api/studies").json()}
    assert best == {"mixed": pytest.approx(0.8), "alone": -12.3, "neither": None, "first": 0.6}


def test_a_study_of_losses_has_a_page_while_it_has_no_finalist(client: TestClient, running: StudyFolder) -> None:
    write_scores(running, {"wiki": -2.3, "news": -3.5}, wiki=BY_LOSS, news=BY_LOSS)
    answer = client.get("/studies/running")
    assert answer.status_code == 200
    assert "On NEWS, the best adapter has a validation score of -3.500" in page_of(answer.text).text


def test_a_report_without_orders_says_nothing_of_them(study: StudyFolder) -> None:
    html = write_report(study).read_text(encoding="utf-8")
    assert "Orders" not in html
    assert "<form" not in html


def test_the_part_about_the_present_says_what_runs(client: TestClient, running: StudyFolder) -> None:
    text = page_of(client.get("/studies/running").text).text
    assert "Stage: search. 3 of 9 trials have ended, 1 runs." in text
    assert "about 1 min 15 s left" in text
    assert "cola-0007 25 % 0 of 3" in text


def test_a_study_without_a_driver_says_that_orders_wait(client: TestClient, study: StudyFolder) -> None:
    text = page_of(client.get("/studies/first").text).text
    assert "No driver runs this study: orders wait until it is resumed." in text


def test_a_page_loads_nothing_from_outside_and_no_plotly_of_its_own(client: TestClient, study: StudyFolder) -> None:
    html = client.get("/studies/first").text
    assert {load.partition("/")[0] for load in page_of(html).loads} <= {"", "data:,", "#main"} | {
        load for load in page_of(html).loads if load.startswith("#")
    }
    assert len(html) < 400_000
    [address] = re.findall(r'data-plotly="([^"]+)"', html)
    script = client.get(address)
    assert script.text == get_plotlyjs()
    assert "immutable" in script.headers["cache-control"]


def test_every_script_of_a_page_has_the_nonce_of_its_policy(client: TestClient, study: StudyFolder) -> None:
    answers = [client.get("/studies/first") for _ in range(2)]
    for answer in answers:
        [nonce] = re.findall(r"'nonce-([^']+)'", answer.headers["content-security-policy"])
        scripts = [tag for name, tag in page_of(answer.text).attributes if name == "script"]
        code = [tag for tag in scripts if tag.get("type") != "application/json"]
        assert len(code) == 4
        assert all(tag["nonce"] == nonce for tag in code)
    assert len({answer.headers["content-security-policy"] for answer in answers}) == 2


def test_hostile_content_is_text(client: TestClient, root: Path) -> None:
    folder = make_study(root / "hostile")
    facts = manifest("cola").model_copy(update={"name": "<script>alert(1)</script>", "command": "x --now '<!--now-->'"})
    facts.write(folder.manifest)
    evil = '"><script>alert("k")</script>'
    trial = replace(started(5), trial_id=evil, proposed_by=evil, params={**started(5).params, evil: evil})
    sink = ParquetSink(folder.results)
    sink.trial_started(trial)
    sink.trial_ended(ended(replace(started(6), error=OUTBURST), Status.FAILED, [], error=OUTBURST))
    give_order(folder, OrderRequest(what="pause"), by="<b>ann</b>")
    lock = drive(folder)
    html = client.get("/studies/hostile").text
    page, part = page_of(html), client.get("/studies/hostile/main").text
    lock.release()
    assert page.tags["script"] == 4 + page.tags["figure"]
    assert "&lt;b&gt;ann" in html
    assert "<b>ann" not in html
    assert "<script>alert" not in html + part
    assert page.ids.count("now") == 1


def test_passwords_are_masked(client: TestClient, root: Path) -> None:
    folder = make_study(root / "secret")
    with folder.spec.open("a", encoding="utf-8") as file:
        file.write("tracking_uri: http://ann:hunter2@host/\n")
    failed = ended(started(6), Status.FAILED, [], error="no access to s3://ann:hunter2@bucket with password=hunter2")
    ParquetSink(folder.results).trial_ended(failed)
    answers = [
        client.get(f"{place}secret{end}").text for place, end in (("/studies/", ""), ("/api/studies/", "/trials"))
    ]
    assert not [text for text in answers if "hunter2" in text]
    assert "ann:***@bucket" in answers[1]


@pytest.mark.parametrize(
    "name",
    ["%2e%2e", "..%2f..%2fetc", "%00", "x" * 5000, "é" * 200, ".hidden", "mlflow.db", "first%2F..%2Ffirst", "a b"],
)
def test_a_name_that_is_none_leads_nowhere(client: TestClient, study: StudyFolder, name: str) -> None:
    for path in (f"/studies/{name}", f"/studies/{name}/main", f"/studies/{name}/events", f"/api/studies/{name}"):
        assert client.get(path).status_code in {404, 422}, path


@pytest.mark.parametrize("linked", ["", "study.yaml", "manifest.json", "results", "results/trials.parquet"])
def test_a_link_out_of_the_storage_is_not_followed(
    client: TestClient, tmp_path: Path, root: Path, study: StudyFolder, linked: str
) -> None:
    outside = make_study(tmp_path / "outside")
    outside.spec.write_text("canary: canary-content\n")
    place = root / "linked"
    if linked:
        make_study(place)
        target = place / linked
        target.rename(tmp_path / "moved")
        target.symlink_to(outside.root / linked)
    else:
        place.symlink_to(outside.root)
    for path in ("/studies/linked", "/api/studies/linked", "/api/studies/linked/trials", "/studies/linked/main"):
        answer = client.get(path)
        assert answer.status_code == 422
        assert "outside the storage" in answer.text
        assert "canary" not in answer.text
    assert client.post("/api/studies/linked/orders", json={"what": "pause"}).status_code == 422
    assert not (outside.root / "orders").exists()
    assert "canary" not in client.get("/").text


@pytest.mark.parametrize("linked", ["orders", ".lock", "state.json"])
def test_nothing_is_written_through_a_link(client: TestClient, tmp_path: Path, study: StudyFolder, linked: str) -> None:
    outside = tmp_path / "outside"
    if linked == "orders":
        outside.mkdir()
    else:
        outside.write_text("kept")
    (study.root / linked).symlink_to(outside)
    assert client.post("/api/studies/first/orders", json={"what": "pause"}).status_code == 422
    assert client.get("/").status_code == 200
    assert list(outside.iterdir()) == [] if outside.is_dir() else outside.read_text() == "kept"
