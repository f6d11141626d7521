"""Tests a study from Python: planned, run, stopped, resumed and used, and the same as the command line's."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import krona_tune
from krona_tune import cli
from krona_tune.api import driver_process
from krona_tune.api import study as study_module
from krona_tune.api.exit_status import ExitStatus
from krona_tune.api.kept_inputs import forget_described, note_started
from krona_tune.record.contributed_curves import write_curves
from krona_tune.record.driver_state import write_driver_state
from krona_tune.record.mlflow_mirror.tracking_uri import TRACKING
from krona_tune.record.notifications import NOTIFY
from krona_tune.record.ownership import claim
from krona_tune.record.parquet_reader import read_trials
from krona_tune.refusal import Refusal
from krona_tune.search.driver_options import DriverOptions, Outcome
from krona_tune.search.start_options import START_OPTIONS
from krona_tune.search.startup import cluster
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import dump_spec, load_spec
from krona_tune.study.request.plain_yaml import dump_yaml
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.settings import flag_of
from krona_tune.study.study_state import DriverState, End
from tests.record.curve_files import provenance, rows
from tests.record.events import manifest
from tests.search.models import saved_bert
from tests.waiting import until
from tests.whole_studies import KRONA_TUNE, SOON

GOOD, BAD = ("lovely", "great", "fine"), ("awful", "poor", "dull")
OF_THE_MOMENT = {"machine", "time", "hours", "memory", "disk"}
"""The lines of a plan about how busy the machine is, how fast, and what room it has, at this moment."""
SPACE = {
    "adapter": {"a_out": [4, 6], "a_in": [4, 6], "scale": [2, 8]},
    "schedule": {"epochs": 2, "grace_epochs": 1, "reduction": 2},
    "examples": {"max_length": 16},
    "finalists": {"top": 0},
}


def frame(rows: int = 90, shift: int = 0) -> pd.DataFrame:
    words = [(GOOD if (n + shift) % 2 else BAD)[n // 2 % 3] for n in range(rows)]
    texts = [f"the book number {n} was {word}" for n, word in enumerate(words)]
    return pd.DataFrame({"body": texts, "verdict": ["good" if word in GOOD else "bad" for word in words]})


def reviews(data: Any) -> dict[str, Any]:
    return {"reviews": {"data": data, "text": "body", "label": "verdict"}}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(saved_bert(tmp_path / "bert"))


def study(model: Any, name: str = "reviews", data: Any = None, **more: Any) -> krona_tune.Study:
    data = frame() if data is None else data
    return krona_tune.Study(model=model, tasks=reviews(data), space=SPACE, name=name, trials=2, **more)


@pytest.mark.parametrize("kind", ["frame", "parts", "dataset", "file"])
def test_a_task_may_be_in_memory(model: str, kind: str, tmp_path: Path) -> None:
    import datasets

    data: Any = frame()
    if kind == "parts":
        data = {datasets.Split.TRAIN: frame(), "validation": frame(20), "test": frame(30)}
    elif kind == "dataset":
        rows = {"train": frame(), "test": frame(20), "unsupervised": frame(5)}  # the last one says no part
        data = datasets.DatasetDict({name: datasets.Dataset.from_pandas(each) for name, each in rows.items()})
    elif kind == "file":
        data.to_csv(tmp_path / "reviews.csv", index=False)
        data = "reviews.csv"
    plan = study(model, data=data).plan()
    own = plan.plan.own_data["reviews"]
    assert own.task.labels == ("bad", "good")
    sizes = {part: table.num_rows for part, table in own.parts.items()}
    assert sum(sizes.values()) == {"parts": 140, "dataset": 110}.get(kind, 90)
    assert {"scale", "a_out", "a_in"} == set(plan.frame["knob"])
    assert "2 labels" in repr(plan)
    assert "<pre" in plan._repr_html_()


@pytest.mark.parametrize("named", ["first", "studies/first", Path("studies/first"), ["studies/first", "first"]])
def test_a_study_to_start_warm_from_is_named_or_its_folder_is(model: str, named: Any) -> None:
    earlier = StudyFolder(Path("studies/first"))
    earlier.root.mkdir(parents=True)
    earlier.spec.touch()
    found = krona_tune.Study(model=model, tasks="cola", space=SPACE, warm_start=named).request.search.warm_start
    assert set(found or ()) == {str(earlier.root.resolve())}
    with pytest.raises(Refusal, match="warm_start: unknown study 'frist', did you mean 'first'"):
        krona_tune.Study(model=model, tasks="cola", space=SPACE, warm_start="frist")


@pytest.mark.slow
def test_nothing_is_left_of_a_study_that_never_began(model: str) -> None:
    made = {name: study(model, name=name) for name in ("described", "begun", "started")}
    for each in made.values():
        each.plan()
        assert (each.folder.inputs / "data" / "reviews" / "train.parquet").exists()
    begin(made["begun"])
    note_started(made["started"].folder)
    study(model, name="begun")
    forget_described()  # as at the end of a process
    assert {path.name for path in Path("studies").iterdir()} == {"begun", "started"}
    assert (made["begun"].folder.inputs / "data").exists()


def test_data_of_a_study_that_another_process_begins_just_now_stay(model: str) -> None:
    """It has the folder's lock, and writes study.yaml later."""
    described = study(model, name="described")
    described.plan()
    with claim(described.folder):
        forget_described()
        assert (described.folder.inputs / "data" / "reviews" / "train.parquet").exists()


def test_a_study_in_memory_runs_with_its_own_data_though_another_of_its_name_was_planned_since(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def begin(spec: StudySpec, *asked: Any, **more: Any) -> None:
        place = Path(str(spec.own_tasks["reviews"].data))
        seen.append(pq.read_metadata(place / "train.parquet").num_rows)

    monkeypatch.setattr(study_module, "run_and_report", begin)
    rows = frame()
    tasks = [{"reviews": {"data": some, "text": "body", "label": "verdict"}} for some in (rows.head(60), rows)]
    small, whole = (krona_tune.Study(model=model, tasks=each, space=SPACE, name="same") for each in tasks)
    small.plan()
    whole.plan()
    small.run()
    assert seen == [60]


def test_a_model_in_memory_is_kept_with_its_tokenizer(model: str) -> None:
    import transformers

    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    plan = study(loaded, tokenizer=tokenizer).plan()
    assert Path(plan.plan.spec.model).is_dir()
    assert "reviews/inputs/model" in plan.plan.spec.model
    rights = {path.stat().st_mode for path in Path(plan.plan.spec.model).iterdir()}
    assert len(rights) == 1  # whoever may read the words may read the weights
    with pytest.raises(Refusal, match="tokenizer: a model in memory needs its tokenizer"):
        study(loaded, name="other").plan()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"tasks": "colla"}, "tasks: unknown task 'colla', did you mean 'cola'"),
        ({"name": "a b"}, "name: 'a b' is no name of a study"),
        ({"trils": 3}, "Study: unknown keyword 'trils', did you mean 'trials'"),
        ({"trials": []}, "trials: [] is not a number of trials; give a whole number from 1"),
        ({"seed": ()}, "seed: [] is refused; write a whole number"),
        ({"trials": 0}, "trials: 0 is refused; write 1 or more"),
        ({"trials": "+3"}, "trials: '+3' is not a number of trials; give a whole number from 1"),
        ({"settings": {"adapter.scael": 2}}, "adapter.scael: unknown key 'scael', did you mean 'scale'"),
        ({"space": "nowhere.yaml"}, "nowhere.yaml: can't be read"),
        ({"wandb": "a/b/c"}, "wandb: 'a/b/c' is no project of W&B; write PROJECT or TEAM/PROJECT"),
        ({"notify": "nowhere"}, "notify: apprise does not understand an address without a scheme"),
        (
            {"tasks": {"reviews": {"data": 3, "text": "body", "label": "verdict"}}},
            "tasks: reviews: data: is of the type int; give",
        ),
    ],
)
def test_bad_input_is_refused_at_the_callers_line(model: str, words: dict[str, Any], message: str) -> None:
    given = {"model": model, "tasks": "cola", "space": SPACE, **words}
    with pytest.raises(Refusal) as refused:
        krona_tune.Study(**given).plan()
    assert message in str(refused.value)
    ours = [entry for entry in refused.traceback if "krona_tune/krona_tune" in str(entry.path)]
    assert len(ours) <= 1
    assert refused.value._render_traceback_() == [str(refused.value)]


@pytest.fixture
def kept_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps the Ray, without a dashboard, that the first study of a test starts for the test's other studies."""
    leave = cluster.leave_ray
    monkeypatch.setattr(cluster, "start_patiently", partial(cluster.start_patiently, include_dashboard=False))
    monkeypatch.setattr(cluster, "leave_ray", lambda *, lost: None)
    yield
    leave(lost=False)


@pytest.mark.slow
@pytest.mark.usefixtures("one_cpu", "kept_ray")
def test_a_study_runs_resumes_answers_and_says_when_it_is_finished(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = study(model).run(quiet=True)
    assert [row.trial_id for row in read_trials(made.folder.results) if row.kind == "search"] == [
        "reviews-000",
        "reviews-001",
    ]
    assert set(made.predict("reviews", ["the book was lovely", "the book was awful"])) <= {"good", "bad"}
    assert made.report().is_file()
    assert "finished, 3 trials" in repr(made)
    assert "<pre" in made._repr_html_()
    capsys.readouterr()
    again = study(model).run()
    assert "is finished. run(trials='+8') adds 8 trials" in capsys.readouterr().out
    assert len(again.trials) == 3
    assert len(again.run(trials="+1", quiet=True).trials) == 4
    assert krona_tune.open_study("reviews").best("reviews").score == again.best("reviews").score
    trained = again.train(all_data=True)
    assert [row.kind for row in read_trials(trained.folder.results)][-1] == "full_data"
    with pytest.raises(Refusal, match="tasks: reviews: data: the study was begun with other rows"):
        study(model, data=frame(shift=1)).run()
    with pytest.raises(Refusal, match=r"schedule\.epochs: the study 'reviews' was begun with 2\.0, not 5\.0"):
        study(model, settings={"schedule.epochs": 5}).run()


def test_a_session_s_own_values_reach_the_driver_as_newer_than_the_orders_of_before(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[set[str]] = []

    def run_here(spec: Any, place: str, reason: str, folder: Any, options: DriverOptions, **more: Any) -> None:
        heard.append(set(options.keys))

    monkeypatch.setattr(study_module, "run_and_report", run_here)
    study(model, max_concurrent=1).run(time_budget="2h")
    assert heard == [{"search.trials", "search.time_budget", "resources.max_concurrent"}]


class Ended:
    """A driver that has ended as after Ctrl-C."""

    def __init__(self, folder: StudyFolder, end: End, reason: str) -> None:
        state = DriverState(stage="end", trials=9, ended=4, slots=2, at=7.0, end=end, reason=reason)
        self._write = lambda: write_driver_state(folder, state)

    def poll(self) -> int:
        return ExitStatus.INTERRUPTED

    def wait(self) -> int:
        self._write()
        return ExitStatus.INTERRUPTED


@pytest.mark.parametrize("wait", [True, False])
def test_a_study_that_stopped_itself_raises_why_and_one_that_a_person_stopped_does_not(
    model: str, wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "the records could not be kept: [Errno 28] No space left on device"
    made = study(model)
    begin(made)
    ledger: Any = None
    halted = Outcome(ledger=ledger, tasks=("reviews",), lost_sinks={}, halted=why)
    monkeypatch.setattr(study_module, "run_and_report", lambda *_, **__: halted)
    monkeypatch.setattr(study_module, "start_driver", lambda *_, **__: Ended(made.folder, "halted", why))
    said = (
        r"the study stopped itself: the records could not be kept: \[Errno 28\] .* when that is fixed, .run\(\) resumes"
    )
    with pytest.raises(RuntimeError, match=said):
        made.run(wait=wait).wait()
    monkeypatch.setattr(study_module, "start_driver", lambda *_, **__: Ended(made.folder, "interrupted", ""))
    made.run(wait=False).wait()


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (False, RuntimeError, r"Ray ended during the study \(Ray's raylet ended\); restart the program, or the"),
        (True, KeyboardInterrupt, "the study was stopped at once; restart the program, or the notebook's kernel, then"),
    ],
)
def test_a_study_whose_ray_was_lost_is_resumed_in_another_process(
    model: str, monkeypatch: pytest.MonkeyPatch, asked: bool, error: type[BaseException], said: str
) -> None:
    ledger: Any = None
    lost = Outcome(ledger=ledger, tasks=("reviews",), lost_sinks={}, asked=asked, lost="Ray's raylet ended")
    monkeypatch.setattr(study_module, "run_and_report", lambda *_, **__: lost)
    with pytest.raises(error, match=said):
        study(model).run()


@pytest.mark.parametrize("wait", [True, False])
def test_who_is_told_and_where_results_go_reaches_the_driver(
    model: str, wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(START_OPTIONS, "wandb", replace(START_OPTIONS["wandb"], refuse=lambda project: None))
    heard: dict[str, Any] = {}

    def run_here(spec: Any, place: str, reason: str, folder: Any, options: DriverOptions, **more: Any) -> None:
        start = options.start
        heard.update(wandb=start.wandb, notify=" ".join(start.notify), tracking_uri=start.tracking_uri)

    def run_elsewhere(words: list[str], output: Path, environment: dict[str, str]) -> None:
        assert "http://mlflow" not in words, "whoever lists processes sees their words"
        given = dict(pairwise(words))
        heard.update(wandb=given["--wandb"], notify=environment[NOTIFY], tracking_uri=environment[TRACKING])

    monkeypatch.setattr(study_module, "run_and_report", run_here)
    monkeypatch.setattr(study_module, "start_driver", run_elsewhere)
    told = {"wandb": "team/mine", "notify": ["json://one", "json://two"], "tracking_uri": "http://mlflow"}
    study(model, **told).run(wait=wait)
    assert heard == {**told, "notify": "json://one json://two"}


def begin(made: krona_tune.Study) -> None:
    made.folder.root.mkdir(parents=True, exist_ok=True)
    made.folder.spec.write_text(dump_spec(made.request), encoding="utf-8")


LATER = {"max_concurrent": 2, "price": 1.5, "time_budget": "2h", "cpus_per_trial": 1}
AS_FLAGS = {"--max-concurrent": "2", "--price": "1.5", "--time-budget": "2h", "--cpus-per-trial": "1"}


@pytest.mark.parametrize("given", [{}, {"time_budget": "3h"}, {"trials": "+3"}, {"trials": 5}])
def test_a_begun_study_is_resumed_elsewhere_with_the_flags_of_its_constructor(
    model: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(study(model))
    heard: list[str] = []
    monkeypatch.setattr(study_module, "start_driver", lambda words, output, environment: heard.extend(words))
    krona_tune.Study(model=model, tasks=reviews(frame()), space=SPACE, name="reviews", **LATER).run(wait=False, **given)
    assert heard[:2] == ["resume", "reviews"]
    words = dict(zip(heard[2::2], heard[3::2], strict=False))
    assert words.pop("--storage") == str(Path("studies").absolute())
    asked = {flag_of(name): str(value) for name, value in given.items()}
    assert words == {**AS_FLAGS, **asked}, "what nobody asks for now, an order may change"
    monkeypatch.setattr(sys, "argv", ["krona-tune", *heard, "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code, "the driver understands its words"


@pytest.mark.parametrize("wait", [True, False])
def test_a_begun_study_takes_every_key_that_may_change_and_says_so_at_once(
    model: str, wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(study(model))
    heard: list[Any] = []
    monkeypatch.setattr(
        study_module,
        "run_and_report",
        lambda spec, *told, **_: heard.append((spec.search.examples_budget, *told[-1].keys)),
    )
    monkeypatch.setattr(study_module, "start_driver", lambda words, *_, **__: heard.extend(words[2:4]))
    again = study(model, settings={"search": {"examples_budget": 700}})
    assert again.request.search.examples_budget == 700
    again.run(wait=wait)
    assert heard == (
        [(700, "search.examples_budget", "search.trials")] if wait else ["--set", "search.examples_budget=700"]
    )


def test_a_begun_study_keeps_its_space_where_none_is_named(model: str) -> None:
    """Another machine, with a GPU or without, would pick another one."""
    begin(krona_tune.Study(model=model, tasks="cola", space=SPACE, name="first", trials=2))
    assert krona_tune.Study(tasks="cola", name="first").request.model == model
    with pytest.raises(Refusal, match=r"seed: the study 'first' was begun with"):
        _ = krona_tune.Study(tasks="cola", name="first", seed=7).request


def test_files_of_tasks_among_the_settings_are_relative_to_the_process(model: str) -> None:
    frame().to_csv("reviews.csv", index=False)
    task = {"data": "reviews.csv", "text": "body", "label": "verdict"}
    made = krona_tune.Study(model=model, space=SPACE, name="first", settings={"tasks": {"reviews": task}})
    assert made.request.own_tasks["reviews"].data == str(Path("reviews.csv").resolve())


def test_a_begun_study_goes_on_in_a_space_that_learned_to_leave_out_what_a_model_lacks(model: str) -> None:
    begin(study(model))
    space = {**SPACE, "backbone": {"narrow": True}}
    words: dict[str, Any] = {"model": model, "tasks": reviews(frame()), "name": "reviews"}
    assert not krona_tune.Study(space=space, **words).request.backbone.narrow
    with pytest.raises(Refusal, match=r"backbone\.narrow: the study 'reviews' was begun with False, not True; repeat"):
        _ = krona_tune.Study(space=SPACE, settings={"backbone.narrow": True}, **words).request
    with pytest.raises(
        Refusal, match=r"^space: the study .* was begun with adapter\.scale 2, 8, not adapter\.scale 3; rep"
    ):
        _ = krona_tune.Study(space={**space, "adapter": {**space["adapter"], "scale": 3}}, **words).request
    with pytest.raises(Refusal, match=r"^shared: the study 'reviews' was begun with False, not True"):
        _ = krona_tune.Study(space=SPACE, shared=True, **words).request


def test_trials_of_a_run_are_those_that_a_new_search_may_end_before(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(study_module, "run_and_report", lambda spec, *_, **__: heard.append(spec))
    study(model, settings={"search.stop": "auto"}).run(trials=8)
    assert (heard[0].search.trials, heard[0].search.stop_trials) == (8, 8)
    assert heard[0].search.ends_itself


def test_a_full_training_takes_nothing_of_what_was_described_for_the_next_run(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(study(model))
    heard: list[int] = []
    monkeypatch.setattr(study_module, "run_and_report", lambda spec, *_, **__: heard.append(spec.search.trials))
    words = {"model": model, "tasks": reviews(frame()), "space": SPACE, "name": "reviews", "trials": 9}
    krona_tune.Study(**words).train("reviews").run()
    assert heard == [2, 9]


def test_a_begun_study_is_described_again_once_what_taught_it_is_gone(model: str, tmp_path: Path) -> None:
    words: dict[str, Any] = {"model": model, "tasks": "cola", "space": SPACE, "name": "new"}
    path = tmp_path / "theirs.parquet"
    write_curves(path, rows(), provenance())
    relative = Path(os.path.relpath(path))
    begin(krona_tune.Study(**words, settings={"search.warm_start": [str(relative)]}))
    made = krona_tune.Study(**words, warm_start=str(relative))
    assert made.request.search.warm_start == (str(path),), "so that it is found from any folder"
    old = Path("studies/old")
    begin(krona_tune.Study(**{**words, "name": "old"}))
    begun = {**words, "name": "newer"}
    with pytest.raises(Refusal, match="unknown study"):
        krona_tune.Study(**begun, warm_start="elder")
    begin(krona_tune.Study(**begun, warm_start="old"))
    shutil.rmtree(old)
    assert krona_tune.Study(**begun, warm_start="old").request.search.warm_start == (str(old.resolve()),)


def test_a_full_training_has_the_resources_of_the_constructor_and_the_budget_of_the_study(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(study(model))
    heard: list[Any] = []
    monkeypatch.setattr(study_module, "run_and_report", lambda spec, *_, **__: heard.append(spec))
    study(model, **LATER).train("reviews")
    assert (heard[0].resources.max_concurrent, heard[0].resources.price_per_hour) == (2, 1.5)
    assert (heard[0].search.trials, heard[0].search.time_budget) == (2, None)


def test_what_the_driver_before_changed_until_its_end_is_not_taken_back(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(model)
    begin(made)
    heard: list[int] = []

    @contextmanager
    def claim_after_more_trials(folder: StudyFolder) -> Iterator[None]:
        more = folder.spec.read_text(encoding="utf-8").replace("trials: 2\n", "trials: 9\n")
        folder.spec.write_text(more, encoding="utf-8")
        with claim(folder):
            yield

    monkeypatch.setattr(study_module, "claim", claim_after_more_trials)
    monkeypatch.setattr(study_module, "run_and_report", lambda spec, *_, **__: heard.append(spec.search.trials))
    opened = krona_tune.Study(model=model, tasks=reviews(frame()), space=SPACE, name="reviews")
    opened.run()
    opened.train("reviews")
    begin(made)
    opened.run(trials="+3")
    assert heard == [9, 9, 9 + 3]


def test_a_study_of_data_and_a_model_from_memory_is_resumed_under_another_name_and_in_another_place(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    bert = transformers.AutoModelForSequenceClassification.from_pretrained(model)
    words = transformers.AutoTokenizer.from_pretrained(model)

    def begun(name: str, data: pd.DataFrame) -> StudyFolder:
        made = krona_tune.Study(model=bert, tokenizer=words, tasks=reviews(data), space=SPACE, name=name)
        begin(made)
        manifest("reviews").model_copy(update={"request": made.request.kept()}).write(made.folder.manifest)
        return made.folder

    heard: list[StudySpec] = []
    monkeypatch.setattr(study_module, "run_and_report", lambda spec, *_, **__: heard.append(spec))
    renamed = begun("first", frame()).root.rename("studies/renamed")
    begun("first", frame(30))
    Path("elsewhere").mkdir()
    for place in (renamed, Path("elsewhere/moved")):
        shutil.move(renamed, place)
        krona_tune.open_study(place).run()
        kept = place.resolve() / "inputs"
        assert (heard[-1].model, heard[-1].own_tasks["reviews"].data) == (
            str(kept / "model"), str(kept / "data" / "reviews"),
        )  # fmt: skip
        assert len(pd.read_parquet(kept / "data" / "reviews" / "train.parquet")) == 90


def test_a_study_that_another_driver_has_begun_meanwhile_is_not_begun_again(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(model)

    @contextmanager
    def claim_after_it_has_begun(folder: StudyFolder) -> Iterator[None]:
        begin(made)
        with claim(folder):
            yield

    monkeypatch.setattr(study_module, "claim", claim_after_it_has_begun)
    with pytest.raises(Refusal, match="holds a study; use --resume reviews"):
        made.run()


@pytest.mark.parametrize("wait", [True, False])
def test_the_flags_of_the_constructor_and_of_run_reach_a_new_study(
    model: str, wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []

    def run_here(spec: Any, *asked: Any, **more: Any) -> None:
        heard.append(spec)

    monkeypatch.setattr(study_module, "run_and_report", run_here)
    monkeypatch.setattr(study_module, "start_driver", lambda words, *_, **__: heard.append(load_spec(Path(words[2]))))
    study(model, **LATER).run(wait=wait, trials=5, time_budget="1h30")
    search, resources = heard[0].search, heard[0].resources
    assert (search.trials, search.time_budget, resources.max_concurrent, resources.price_per_hour) == (5, 5400, 2, 1.5)


def test_a_study_whose_inputs_have_names_is_started_elsewhere(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[StudySpec] = []
    monkeypatch.setattr(study_module, "start_driver", lambda words, *_, **__: heard.append(load_spec(Path(words[2]))))
    Path("small.yaml").write_text(dump_yaml(SPACE), encoding="utf-8")
    made = krona_tune.Study(model=model, tasks="cola", data="mini", space="small.yaml", name="named", trials=2)
    made.run(wait=False)
    assert [each.tasks for each in heard] == [("cola",)]


def test_two_studies_without_a_name_have_two(model: str) -> None:
    made = [krona_tune.Study(model=model, tasks="cola", data="mini", space="mini", seed=seed) for seed in range(3)]
    assert len({each.folder for each in made}) == 3


def test_a_study_that_another_begins_under_its_name_is_compared_with_it(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "run_and_report", lambda *asked, **more: pytest.fail("it was run"))
    first, second = (study(model, settings={"schedule.epochs": epochs}) for epochs in (2, 3))
    assert second.request.schedule.epochs == 3
    begin(first)
    with pytest.raises(Refusal, match=r"epochs: the study 'reviews' was begun with 2\.0, not 3\.0"):
        second.run()


def test_a_study_that_another_run_begins_keeps_its_data(model: str) -> None:
    first = study(model)
    with claim(first.folder), pytest.raises(Refusal, match="name: a run of the study 'reviews' begins; wait for it"):
        study(model).plan()


def test_a_study_goes_on_with_what_it_was_last_asked_for(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def run_here(spec: StudySpec, place: str, reason: str, folder: StudyFolder, *_: Any, **__: Any) -> None:
        ran.append(spec.search.trials)
        folder.spec.write_text(dump_spec(spec), encoding="utf-8")

    monkeypatch.setattr(study_module, "run_and_report", run_here)
    made = study(model).run()
    made.run(trials="+8").run()
    assert ran == [2, 10, 10]
    assert made.request.search.trials == 10
    assert study(model).run().request.search.trials == 2, "another object asks for what it was given"


def test_null_of_a_setting_is_given_and_an_unknown_key_is_refused(model: str) -> None:
    space = {**SPACE, "search": {"time_budget": 60}}
    made = krona_tune.Study(model=model, tasks="cola", data="mini", space=space, settings={"search.time_budget": None})
    assert made.request.search.time_budget is None
    with pytest.raises(Refusal, match="nope"):
        krona_tune.Study(model=model, tasks="cola", data="mini", space=SPACE, settings={"search.nope": None})


def test_paths_of_a_space_from_memory_are_those_of_this_process(model: str) -> None:
    frame().to_csv("reviews.csv", index=False)
    space = {**SPACE, "model": model, "tasks": reviews("reviews.csv")}
    assert krona_tune.Study(space=space, name="mapped").plan().plan.own_data["reviews"].parts


def test_settings_name_a_model_of_ones_own_as_a_keyword_does(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "choose_space", lambda *_: pytest.fail("a shipped space was chosen"))
    given = {"model": model, "data": "mini", "tasks": ["cola"]}
    assert krona_tune.Study(settings=given, name="own").request.model == model


def test_tasks_may_be_the_path_of_a_file_and_numbers_those_of_numpy(model: str) -> None:
    frame().to_csv("reviews.csv", index=False)
    Path("tasks.yaml").write_text("tasks: {reviews: {data: reviews.csv, text: body, label: verdict}}", encoding="utf-8")
    made = krona_tune.Study(model=model, tasks=Path("tasks.yaml"), space=SPACE, name="path")
    assert made.request.tasks == ("reviews",)
    with pytest.raises(Refusal, match="train: the study 'path' has not begun"):
        made.train(seeds=np.int64(3))  # type: ignore[arg-type]


def test_data_that_a_begun_study_uses_stay_when_another_described_them(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "run_and_report", lambda *asked, **more: None)
    described = study(model, name="described")
    used = krona_tune.Study(space=described.recommend().request, name="used")
    used.run()
    forget_described()
    assert (described.folder.inputs / "data" / "reviews" / "train.parquet").exists()


class Beginning:
    """A driver's process that has not claimed its study yet, until it is told to end."""

    pid = 2**22 + 1
    ended = False

    def poll(self) -> int | None:
        return ExitStatus.INTERRUPTED if self.ended else None


def test_a_study_that_begins_in_another_process_runs(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    child = Beginning()
    monkeypatch.setattr(study_module, "start_driver", lambda *_, **__: child)
    monkeypatch.setattr("os.kill", lambda process, _: setattr(child, "ended", process == child.pid))
    made = study(model).run(wait=False)
    assert made.running
    with pytest.raises(Refusal, match="is being run"):
        made.run(wait=False)
    made.stop()
    assert not made.running


@pytest.mark.slow
@pytest.mark.usefixtures("one_cpu")
def test_a_study_in_another_process_is_stopped(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_process, "CODE", SOON + KRONA_TUNE)
    long = {"schedule.epochs": 200, "schedule.grace_epochs": 1}
    made = study(model, settings=long).run(wait=False)
    until(lambda: made.folder.results.exists() and len(made.reports))
    assert made.running
    with pytest.raises(Refusal, match="is being run"):
        study(model, settings=long).run()
    krona_tune.open_study("reviews").stop()
    assert not made.running
    assert "stopped" in repr(made)
    with pytest.raises(Refusal, match="stop: the study 'reviews' does not run here"):
        made.stop()
    made.wait()


def test_the_command_line_resumes_what_python_planned(model: str) -> None:
    """Both are one path: the plan from Python and that of the flags are equal."""
    import yaml

    Path("space.yaml").write_text(yaml.safe_dump(SPACE), encoding="utf-8")
    words = [
        "--space",
        "space.yaml",
        "--model",
        model,
        "--tasks",
        "cola",
        "--data",
        "mini",
        "--trials",
        "2",
        "--name",
        "one",
    ]
    said = subprocess.run(
        [sys.executable, "-c", KRONA_TUNE, "run", "--dry-run", *words], capture_output=True, text=True, check=True
    )
    plan = krona_tune.Study(model=model, tasks="cola", data="mini", space="space.yaml", trials=2, name="one").plan()
    shown = " ".join(said.stdout.split())
    for name, text in plan.lines.items():
        if name not in OF_THE_MOMENT:
            assert " ".join(f"{name} {text}".split()) in shown


def test_a_study_stays_where_it_was_made_when_its_process_goes_elsewhere(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(model)
    place = made.folder.root
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made.plan()
    assert made.folder.root == place.absolute()
    assert not (tmp_path / "elsewhere" / "studies").exists()


def test_one_study_at_a_time_runs_in_a_process(model: str) -> None:
    with driver_process.one_at_a_time(), pytest.raises(Refusal, match="run: another study runs in this process; wait"):
        study(model).run()


def test_a_study_that_another_thread_runs_is_not_stopped_by_a_signal(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_process, "driver_of", lambda folder: (os.getpid(), driver_process.this_host()))
    with pytest.raises(Refusal, match="in another thread; end it by"):
        study(model).stop()
