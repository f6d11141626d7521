"""Tests what is printed when a study begins and ends."""

import re
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.table import Table

from krona_tune.api.plan_view import plan_lines
from krona_tune.api.printing import SafeConsole, console, errors, mlflow_ui, print_cost, print_paths, print_started
from krona_tune.record.sink import NullSink
from krona_tune.search.forecast import Forecast, TaskForecast, TrialParts
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.start_options import StartOptions
from krona_tune.search.startup.begin_study import DriverContext
from krona_tune.search.startup.slots import Cluster, Slots
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.request.search_spec import SearchSpec
from krona_tune.study.request.study_spec import StudySpec
from tests.record.events import manifest
from tests.study.final_rows import row

RTE = TaskForecast(
    schedule=Schedule(examples_per_epoch=100, rungs=(100, 300, 700), reduction=3),
    adapter=TrialParts(epoch=10.0, evaluation=1.0),
    head=TrialParts(epoch=4.0, evaluation=1.0),
)


@pytest.mark.parametrize(
    ("root", "uri", "command"),
    [
        ("studies/first", None, "krona-tune sync first"),
        ("my studies/first", None, "krona-tune sync first --storage 'my studies'"),
        (
            "studies/first",
            "http://me:hunter2@host",
            "krona-tune sync first --tracking-uri 'http://me:***@host'",
        ),
    ],
)
def test_what_mlflow_lacks_is_said_with_the_command_that_adds_it(
    capsys: pytest.CaptureFixture[str], root: str, uri: str | None, command: str
) -> None:
    print_paths(StudyFolder(Path(root)), "1 min", uri, "MLflow lacks 3 of 3 events ([Errno 2] no)")
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"MLflow lacks 3 of 3 events ([Errno 2] no): {command}"
    print_paths(StudyFolder(Path(root)), "1 min", uri)
    said = capsys.readouterr().out
    assert "krona-tune sync" not in said
    assert "Compare trials: " in said


def test_no_text_acts_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("\x1b[31mhead", box=None)
    table.add_row("a\x9bb\u202e")
    console.print(table)
    console.print("line\nof\ta\x1b]0;title\x07", markup=False, highlight=False)
    errors.print("\x00")
    said, told = capsys.readouterr()
    assert [line.strip() for line in said.splitlines()] == [
        r"\x1b[31mhead",
        r"a\x9bb\u202e",
        "line",
        r"of      a\x1b]0;title\x07",
    ]
    assert told == "\\x00\n"


class LeftPipe(StringIO):
    """A pipe whose reader has left; counts how often something is written."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        raise BrokenPipeError


def test_a_reader_that_leaves_ends_nothing() -> None:
    pipe = LeftPipe()
    read = SafeConsole(file=pipe)
    for _ in range(3):
        read.print("a trial has ended")
    assert pipe.writes == 1


def begun(plan: Plan) -> DriverContext:
    """Returns a study that has begun, as far as something is printed of it."""
    return DriverContext(
        plan=plan,
        cluster=Cluster(nodes=(), dashboard=""),
        slots=Slots(cpus=2.0, gpus=0.0, count=1),
        source=plan.source,
        prepared=None,  # type: ignore[arg-type]
        folder=StudyFolder(Path("studies/first")),
        manifest=manifest("rte"),
    )


@pytest.mark.parametrize(
    ("price", "line", "foretold", "ended"),
    [
        (
            2.1,
            "2.10 a device hour",
            r" core hours, [\d.]+ at 2\.10 a device hour\) by a few timed steps",
            "cost 4.20, ",
        ),
        (None, None, r" core hours\) by a few timed steps", None),
    ],
)
def test_a_price_is_in_the_plan_the_forecast_and_the_end(
    capsys: pytest.CaptureFixture[str],
    model: str,
    price: float | None,
    line: str | None,
    foretold: str,
    ended: str | None,
) -> None:
    resources = {"cpus_per_trial": 2, "price_per_hour": price}
    request: dict[str, Any] = {"model": model, "tasks": ["rte"], "data": "mini", "resources": resources}
    plan = make_plan(StudySpec.model_validate(request), "here")
    assert plan_lines(plan, "").get("price") == line
    started = begun(plan)
    print_started(started, StartOptions(), Forecast(tasks={"rte": RTE}), {})
    assert re.search(foretold, capsys.readouterr().out)
    took = replace(row("000", "search", 0.5), device_seconds=7200.0)
    print_cost(started, Ledger(plan.count, NullSink(), [took]))
    said = capsys.readouterr().out
    assert (f"The study's trials have {ended}at 2.10 a device hour." in said) if ended else said == ""


@pytest.mark.parametrize(
    ("budget", "cut"),
    [(None, ""), (600, ""), (30, "; its budget ends it in 20 s"), (10, "; its budget ends it in 0 s")],
)
def test_of_a_resumed_study_it_is_said_what_is_left(
    capsys: pytest.CaptureFixture[str], model: str, tmp_path: Path, budget: float | None, cut: str
) -> None:
    request: dict[str, Any] = {"model": model, "tasks": ["rte"], "data": "mini", "search": {"trials": 4}}
    request["search"]["time_budget"] = budget
    started = begun(make_plan(StudySpec.model_validate(request), "here"))
    started = replace(started, folder=StudyFolder(tmp_path))
    forecast = Forecast(tasks={"rte": RTE})
    whole = forecast.study(started.plan.spec, started.slots)
    rows = {f"rte-{number:03}": row(f"{number:03}", "search", 0.5) for number in range(3)}
    started.folder.clock.write_text('{"seconds": 8.0}')
    print_started(started, StartOptions(), forecast, rows, 2.0)
    said = re.search(r"time +about (.+) more by a few timed steps(.*)", capsys.readouterr().out)
    assert said is not None
    assert 0 < (SearchSpec.model_validate({"time_budget": said[1].replace(" ", "")}).time_budget or 0) < whole / 2
    assert said[2] == cut


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("online", "W&B     project mine, group first\n"),
        ("offline", "W&B     project mine, group first, on disk only: wandb sync studies/first/wandb/offline-run-*\n"),
    ],
)
def test_where_the_trials_are_at_w_and_b_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str, mode: str, said: str
) -> None:
    package = SimpleNamespace(setup=lambda: SimpleNamespace(settings=SimpleNamespace(mode=mode)))
    monkeypatch.setitem(sys.modules, "wandb", package)  # type: ignore[arg-type]
    plan = make_plan(StudySpec.model_validate({"model": model, "tasks": ["rte"], "data": "mini"}), "here")
    print_started(begun(plan), StartOptions(wandb="mine"), None, {})
    assert said in capsys.readouterr().out
    print_started(begun(plan), StartOptions(), None, {})
    assert "W&B" not in capsys.readouterr().out


def test_the_command_that_shows_a_store_can_be_pasted_and_has_no_password() -> None:
    assert mlflow_ui("sqlite:////tmp/a #b/mlflow.db") == "mlflow ui --backend-store-uri 'sqlite:////tmp/a #b/mlflow.db'"
    assert "hunter2" not in mlflow_ui("postgresql+psycopg2://ann:hunter2@db/mlflow")
