"""Tests that the pages show what the records hold, as the written report does, and survive studies that are damaged."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from starlette.testclient import TestClient

from krona_tune.record.driver_state import read_driver_state, write_driver_state
from krona_tune.record.orders import give_order
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.report.study_page import write_report
from krona_tune.service import pages
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.order import OrderRequest
from krona_tune.study.request.loader import build_spec, dump_spec
from krona_tune.study.result import Status
from tests.record.events import curve, ended, manifest, report, started
from tests.report.pages import BY_LOSS, page_of, write_scores
from tests.report.small_study import OUTBURST
from tests.service.conftest import drive, end, make_study, note


def sections(html: str) -> dict[str, str]:
    """Returns the parts of the page's main element by their headings' ids, without the buttons of the served page."""
    main = re.sub(r" <button[^>]*data-clone.*?</button>", "", html[html.index("<main") : html.index("</main>")])
    found = re.findall(r'<section aria-label(?:ledby)?="([^"]+)">.*?</section>', main, re.DOTALL)
    texts = re.findall(r'<section aria-label(?:ledby)?="[^"]+">.*?</section>', main, re.DOTALL)
    return dict(zip(found, texts, strict=True))


def test_an_empty_storage_has_an_index(client: TestClient) -> None:
    assert "No study is here yet" in client.get("/").text


def test_an_index_is_drawn_once_for_all_who_ask_until_something_changes(
    client: TestClient, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "SHARED_SECONDS", 1e9)
    drawn, draw = list[int](), pages.index_body

    def counted(*words: Any, **named: Any) -> Markup:
        drawn.append(1)
        return draw(*words, **named)

    monkeypatch.setattr(pages, "index_body", counted)
    answers = [client.get("/main") for _ in range(2)]
    assert answers[0].headers[pages.STAMP] == answers[1].headers[pages.STAMP]
    assert (len(drawn), answers[0].text) == (1, answers[1].text)
    make_study(study.root.parent / "second")
    changed = client.get("/main")
    assert changed.headers[pages.STAMP] != answers[0].headers[pages.STAMP]
    assert (len(drawn), "second" in changed.text) == (2, True)


def test_a_folder_whose_name_is_no_text_is_shown(client: TestClient, study: StudyFolder) -> None:
    make_study(study.root.parent / "second").root.rename(study.root.parent / os.fsdecode(b"a\xffb"))
    assert "the folder 'a\\udcffb' has no name of a study" in page_of(client.get("/").text).text
    assert [each["name"] for each in client.get("/api/studies").json()] == ["first", "a\\xffb"]
    assert client.get("/main").status_code == 200


def test_a_folder_without_a_study_s_name_has_no_link_and_the_index_says_what_to_do(
    client: TestClient, study: StudyFolder
) -> None:
    for name in ("my study ü", "-x"):
        make_study(study.root.parent / name)
    html = client.get("/").text
    links = re.findall(r'href="(/studies/[^"]+)"', html)
    assert [(link, client.get(link).status_code) for link in links] == [("/studies/first", 200)]
    assert re.findall(r'name="study" value="([^"]+)"', html) == ["first"]
    for name in ("my study ü", "-x"):
        assert f"the folder '{name}' has no name of a study; rename it: use letters, digits" in page_of(html).text
    assert {each["name"]: each["state"] for each in client.get("/api/studies").json()} == {
        "first": "stopped",
        "my study ü": "unreadable",
        "-x": "unreadable",
    }


def test_a_task_may_be_called_as_another_part_of_a_page(client: TestClient, root: Path) -> None:
    names = ("all", "clone", "cost", "main", "now", "orders", "requests", "said", "studies", "tasks")
    for study in ("first", "second"):
        write_scores(StudyFolder(root / study), dict.fromkeys(names, 0.5))
    for path in ("/studies/first", "/compare?study=first&study=second"):
        page = page_of(client.get(path).text)
        assert {f"task-{name}" for name in names} <= set(page.ids)
        assert len(page.ids) == len(set(page.ids))


def test_a_served_page_has_the_sections_of_the_written_report(client: TestClient, study: StudyFolder) -> None:
    give_order(study, OrderRequest(what="pause"), by="ann")
    served, written = (
        sections(client.get("/studies/first").text),
        sections(write_report(study).read_text(encoding="utf-8")),
    )
    assert served == written
    assert {"What won", "orders", "tasks", "task-cola", "cost", "reproduce"} <= set(written)
    assert "ann" in written["orders"]


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
    assert "cola-0007 Stop Clone… 25 % 0 of 3 – – –" in text
    assert "Training loss" not in text.replace("Training loss Learning rate", "")


def test_the_part_about_the_present_shows_the_curve_of_what_runs(client: TestClient, running: StudyFolder) -> None:
    note(running, started(7), 0.25, curve(0.9, 0.625))
    html = client.get("/studies/running").text
    assert "cola-0007 Stop Clone… 25 % 0 of 3 0.625 0.00966 –" in page_of(html).text
    [figure] = re.findall(r'<script type="application/json" id="now-running">(.*?)</script>', html)
    [line] = json.loads(figure)["data"]
    assert (line["name"], line["x"], line["y"]) == ("cola-0007", [0.5, 1.0, None], [0.9, 0.625, None])


def test_a_study_without_a_driver_says_that_orders_wait(client: TestClient, study: StudyFolder) -> None:
    text = page_of(client.get("/studies/first").text).text
    assert "No driver runs this study: orders wait until it is resumed." in text


def test_while_a_full_training_runs_the_orders_of_the_search_are_not_offered_and_said_to_wait(
    client: TestClient, running: StudyFolder
) -> None:
    search, before = present(client)
    state = read_driver_state(running)
    assert state
    write_driver_state(running, state.model_copy(update={"training": True}))
    training, then = present(client)
    assert {"pause", "stop", "trials", "stop_trial"} <= set(search["answers"].split())
    assert "Stop the search… Cancel…" in before
    assert "Change the budget" in before
    assert training["answers"].split() == ["pause", "continue", "cancel", "share"]
    assert training["waits"] == "A full training runs: it waits for the next driver of the search."
    assert not [each for each in ("Stop", "Clone", "Change the budget", "Order") if each in then]
    running.state.unlink()
    starting, said = present(client)
    assert (starting["answers"], "The driver starts. " in said) == ("", True)


def test_only_trials_of_the_search_can_be_stopped_and_cloned(client: TestClient, running: StudyFolder) -> None:
    finalist = replace(started(8), trial_id="cola-final-1-s1", kind=TrialKind.FINALIST)
    ParquetSink(running.results).trial_started(finalist)
    _, text = present(client)
    assert "cola-0007 Stop Clone… 25 %" in text
    assert "cola-final-1-s1 finalist 0 %" in text


def present(client: TestClient) -> tuple[dict[str, str], str]:
    """Returns what the page's part about the present says of orders to its scripts, and to its reader."""
    html = re.sub("(?s).*(<section id=.now.*?</section>).*", r"\1", client.get("/studies/running").text)
    return dict(re.findall(r'data-(answers|waits)="([^"]*)"', html)), page_of(html).text


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
        assert len(code) == 5
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
    assert page.tags["script"] == 5 + page.tags["figure"]
    assert "&lt;b&gt;ann" in html
    assert "<b>ann" not in html
    assert "<script>alert" not in html + part
    assert page.ids.count("now") == 1


def test_studies_are_chosen_on_the_index_and_compared(client: TestClient, study: StudyFolder, root: Path) -> None:
    assert 'name="study"' not in client.get("/").text  # one study has no other to be compared with
    make_study(root / "other")
    index = page_of(client.get("/").text)
    chosen = [tag["value"] for name, tag in index.attributes if name == "input" and tag.get("name") == "study"]
    assert sorted(map(str, chosen)) == ["first", "other"]
    answer = client.get("/compare?study=first&study=other")
    page = page_of(answer.text)
    assert "2 studies compared" in page.text
    assert "/" in page.loads
    main = client.get("/compare/main?study=first&study=other")
    assert main.headers["X-Stamp"]
    assert main.text in answer.text
    before = main.headers["X-Stamp"]
    end(ParquetSink(root / "other" / "results"), started(3), 0.9)
    changed = client.get("/compare/main?study=first&study=other")
    assert changed.headers["X-Stamp"] != before
    assert "0.900" in changed.text


def test_what_can_not_be_compared_is_refused_with_the_reason(client: TestClient, study: StudyFolder) -> None:
    for chosen, status, text in (
        ("", 422, "studies: none is named Name two studies or more."),
        ("study=first&study=first", 422, "studies: only first is named"),
        ("study=first&study=gone", 404, "no study 'gone' is here"),
        ("study=first&study=%3Cb%3E", 404, "no study '<b>' is here"),
        ("&".join(f"study=s{number}" for number in range(9)), 422, "9 are too many for one page Choose at most 8."),
    ):
        answer = client.get(f"/compare?{chosen}")
        assert answer.status_code == client.get(f"/compare/events?{chosen}").status_code == status
        assert text in page_of(answer.text).text


def test_the_form_of_a_clone_has_the_trials_values_and_what_is_legal_beside_them(
    client: TestClient, study: StudyFolder
) -> None:
    space = {"adapter": {"scale": [1, 2, 4], "terms": {"low": 1, "high": 4}}, "training": {"learning_rate": 0.003}}
    wanted = {"model": "m", "name": "first", "tasks": ["cola"], **space}
    study.spec.write_text(dump_spec(build_spec(wanted, "x.yaml")), encoding="utf-8")
    page = page_of(client.get("/studies/first/clone/cola-0002").text)
    values = {tag["data-key"]: tag["value"] for name, tag in page.attributes if name == "input"}
    assert (values["adapter.a_out"], values["adapter.scale"], values["training.dropout"]) == ("12", "2.5", "null")
    assert "scale one of 1, 2, 4" in page.text
    assert "terms 1 to 4" in page.text
    assert "learning rate not searched" in page.text
    assert page.text.index("terms") < page.text.index("learning rate")  # what is searched comes first
    assert "init one of krona, cdka" in page.text


def test_a_trial_that_is_none_or_no_searched_one_has_no_form(client: TestClient, study: StudyFolder) -> None:
    for trial, text in (("cola-9", "'cola-9' is no trial of this study"), ("cola-0000", "clone a trial of the search")):
        answer = client.get(f"/studies/first/clone/{trial}")
        assert answer.status_code == 422
        assert text in page_of(answer.text).text.lower()


def test_a_running_trial_is_said_to_run_and_not_to_have_ended(client: TestClient, running: StudyFolder) -> None:
    ParquetSink(running.results).reported(report(started(7), 0, 0.9))
    text = page_of(client.get("/studies/running").text).text
    ranking = text[text.index("COLA: the best") :]
    assert "1 cola-0007 Clone… 0.900" in ranking
    assert " runs 2 cola-0002" in ranking
    assert "interrupted" not in ranking.split("cola-0002")[0]
