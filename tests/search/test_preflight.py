"""Tests that the preflight finds everything that would fail a trial, all at once, and leaves nothing behind."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from random import Random
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar

import pyarrow as pa
import pytest
import torch
from torch import nn

from krona_tune.data.tasks import TASKS
from krona_tune.record.mlflow_mirror.tracking_uri import explain_unreachable
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.refusal import Refusal, joined
from krona_tune.search.layer_passes import usual_point
from krona_tune.search.planning.footprint import checkpoints_of, largest_points
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.startup import begin_study, cluster, preflight
from krona_tune.search.startup.begin_study import Resources
from krona_tune.search.startup.cluster import connecting
from krona_tune.search.startup.preflight import (
    NodeReport,
    inspect_node,
    node_problems,
    package_versions,
    run_preflight,
)
from krona_tune.search.startup.slots import Slots
from krona_tune.search.startup.task_data import prepare_data
from krona_tune.search.worker import first_batch
from krona_tune.search.worker.first_batch import (
    KINDS,
    FirstBatch,
    longest_example,
    points_beside,
    refuse_no_number,
    train_first_batch,
)
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.loader import build_spec
from krona_tune.study.result import Status
from tests.record.damage import cut, other_bytes, unknown_status
from tests.record.events import ended, started
from tests.search.conftest import GIGABYTE, SMALL, one_node, space


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "studies" / "first")


def test_a_study_that_can_run_has_no_findings_and_leaves_nothing(gathered: Resources, folder: StudyFolder) -> None:
    found = run_preflight(gathered, folder, None)
    assert (found.problems, found.warnings) == ((), ())
    found.refuse()
    assert not list(folder.root.parent.parent.iterdir())


def test_data_that_teach_nothing_are_warned_of(
    gathered: Resources, folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("x\t1\t\tthe same words\n" * 24, encoding="utf-8")
    plan = gathered.plan
    spec = plan.spec.model_copy(update={"data": str(tmp_path), "tasks": ("cola",)})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prepared = prepare_data(replace(plan, spec=spec, tasks={"cola": TASKS["cola"]}), gathered.source.location)
    found = run_preflight(replace(gathered, prepared=prepared), folder, None)
    of_another = run_preflight(replace(gathered, prepared=prepared), folder, None, "rte")
    assert not of_another.warnings, "a full training is of one task"
    assert not found.problems
    assert found.warnings == (
        "the 24 train examples of CoLA all have the label 'acceptable'",
        "the 12 validation examples of CoLA all have the label 'acceptable'",
        "the 12 test examples of CoLA all have the label 'acceptable'",
    )


def test_the_largest_adapter_is_tried_with_the_largest_batch(gathered: Resources) -> None:
    space = gathered.plan.space
    params = largest_points(space)[0]
    assert params["batch_size"] == 16
    assert params["roles"] == "query+value"
    every = [space.parameters({**params, "a_out": a, "a_in": b}) for a in (1, 24) for b in (1, 24)]
    assert space.parameters(params) >= max(every) / 2


def test_the_first_batch_is_of_the_longest_examples(gathered: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, int, int]] = []

    def listen(trial_id: str, trial: Any, work: Any, backbone: Any, report: Any) -> None:
        trained.append((trial.task, len(work.train), longest_example(work)))
        raise ArithmeticError

    monkeypatch.setattr("krona_tune.search.worker.first_batch.train_trial", listen)
    works = gathered.prepared.works
    done = train_first_batch(gathered.workplace(StudyFolder(Path("x"))), works, largest_points(gathered.plan.space)[0])
    heaviest = max(works, key=lambda task: longest_example(works[task]))
    assert {task: rows for task, rows, _ in trained} == {task: 16 if task == heaviest else 2 for task in works}
    assert {task: tokens for task, _, tokens in trained} == {
        task: longest_example(work) for task, work in works.items()
    }
    assert set(done.failures) == set(works)


def test_a_kind_of_adapter_that_does_not_train_refuses_a_new_study_and_warns_of_one_that_goes_on(
    gathered: Resources, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest adapter trains layer norms, and trains."""
    params = largest_points(gathered.plan.space)[0]
    unfit = {**params, "layer_norms": not params["layer_norms"]}
    need = preflight.needed_bytes(gathered)
    monkeypatch.setitem(vars(gathered.plan.space), "sample", (params, unfit))
    real, kind = first_batch.train_trial, f"layer_norms {'no' if params['layer_norms'] else 'yes'}"

    def fail(trial_id: str, trial: Any, *others: Any) -> Any:
        if trial.adapter.layer_norms != params["layer_norms"]:
            raise TypeError("a weight is float32")
        return real(trial_id, trial, *others)

    monkeypatch.setattr(first_batch, "train_trial", fail)
    [said] = preflight.in_the_first_batch(gathered, folder, need).problems
    assert (said.place, said.fix) == (f"the first batch with {kind}", "leave it out of the space")
    assert "TypeError: a weight is float32" in said.problem
    resumed = replace(gathered, plan=replace(gathered.plan, computes_in="fp32"))
    found = preflight.in_the_first_batch(resumed, folder, need)
    assert not found.problems
    assert any(f"with {kind} failed, as such trials will: TypeError" in each for each in found.warnings)


def test_each_other_kind_of_adapter_is_tried_once() -> None:
    made = space(adapter={"layer_norms": [False, True]}, training={"gradient_checkpointing": [False, True]})
    largest = largest_points(made)[0]
    beside = points_beside(made, largest)
    values = {(name, point[name]) for point in (largest, *beside.values()) for name in KINDS}
    assert values == {("method", "krona"), *((name, value) for name in KINDS[1:] for value in (False, True))}
    assert len(beside) <= 2
    assert points_beside(space(), largest_points(space())[0]) == {}


def test_a_metric_that_has_no_value_on_a_few_rows_does_not_refuse_a_study(gathered: Resources, tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text("def judge(labels, answers):\n    return 1 / (len(labels) // 20)\n")
    work = gathered.prepared.works["cola"]
    task = replace(work.task, metrics=("judge",), functions=(("judge", f"{tmp_path}/judge.py:judge"),))
    works = {"cola": replace(work, task=task)}
    params, drawn = largest_points(gathered.plan.space)[0], torch.get_rng_state()
    assert train_first_batch(gathered.workplace(StudyFolder(Path("x"))), works, params).failures == {}
    assert torch.equal(torch.get_rng_state(), drawn), "a session goes on with these"


def test_a_torch_without_gpus_is_named_where_ray_gave_one(gathered: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    workplace = replace(gathered.workplace(StudyFolder(Path("x"))), gpu=True)
    with pytest.raises(Refusal, match=r"^GPU: torch .* can't use the one that Ray gave a trial; install a build"):
        train_first_batch(workplace, gathered.prepared.works, largest_points(gathered.plan.space)[0])


def test_also_the_only_node_of_a_joined_cluster_is_looked_at(
    gathered: Resources, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers have the environment of whoever started it."""
    joined = replace(gathered, cluster=replace(gathered.cluster, grows=True))
    assert len(joined.cluster.nodes) == 1
    monkeypatch.setattr(preflight, "inspect_nodes", lambda *asked: {"a": "No module named 'krona_tune'"})
    monkeypatch.setattr(preflight, "train_first_batch", lambda *asked: pytest.fail("a trial would fail"))
    problems = run_preflight(joined, folder, None).problems
    assert [str(each) for each in problems] == [
        "node a: No module named 'krona_tune'; install the same krona_tune on every node"
    ]


def test_everything_that_is_wrong_is_said_at_once(
    gathered: Resources, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = gathered.prepared.works
    train = works["cola"].train
    unknown = train.set_column(train.column_names.index("label"), "label", pa.array([7] * len(train)))
    broken = replace(gathered.prepared, works={**works, "cola": replace(works["cola"], train=unknown)})
    sick = replace(gathered, prepared=broken)
    monkeypatch.setattr(preflight, "free_bytes", lambda _: 1)
    found = run_preflight(sick, folder, "http://me:hunter2@127.0.0.1:1")
    assert [refusal.place for refusal in found.problems] == ["--storage", "the first batch of cola"]
    assert "the checkpoints of 16 trials take about" in str(found.problems[0])
    assert "http://me:***@127.0.0.1:1 does not answer" in found.warnings[0]
    with pytest.raises(Refusal) as refused:
        found.refuse()
    first, *lines = str(refused.value).splitlines()
    assert first == "2 problems:"
    assert len(lines) == 2
    assert "hunter2" not in str(refused.value)


def test_checkpoints_that_are_there_need_no_more_space(
    gathered: Resources, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study has 16 trials."""
    need = checkpoints_of(gathered.plan)
    assert need.trials == 16
    storage = folder.root.parent.parent
    for free, begun, problems, warnings in (
        (0.9 * need.usually, 0, 1, 0),
        (0.9 * need.usually, 2, 0, 1),
        (1.01 * need.usually, 2, 0, 1),
        (1.01 * need.most, 2, 0, 0),
        (0, 16, 0, 0),
    ):
        for number in range(begun):
            (folder.root / "checkpoints" / str(number)).mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(preflight, "free_bytes", lambda _, free=free: free)
        found = preflight.check_disk(gathered, folder, storage)
        assert (len(found.problems), len(found.warnings)) == (problems, warnings), (free, begun)


def test_a_disk_that_need_not_hold_all_checkpoints_is_warned_of(
    gathered: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes of a cluster have a part each where the storage is a URI: a head without trials has none."""
    monkeypatch.setattr(preflight, "free_bytes", lambda _: 1)
    joined = replace(gathered, cluster=replace(gathered.cluster, grows=True))
    for there, remote, found in (
        (joined, "s3://there/first", (0, 1)),
        (joined, None, (1, 0)),
        (gathered, "s3://there/first", (1, 0)),
    ):
        findings = preflight.check_disk(there, StudyFolder(tmp_path / "first", remote), tmp_path)
        assert (len(findings.problems), len(findings.warnings)) == found


def test_a_disk_that_takes_an_empty_file_but_no_content_is_a_problem(
    gathered: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    found = preflight.check_disk(gathered, StudyFolder(tmp_path / "first"), tmp_path)
    said = f"--storage: {tmp_path} can't be written: Disk quota exceeded; name a folder that can be written and has"
    assert [str(each).startswith(said) for each in found.problems] == [True]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [cut, other_bytes, unknown_status])
def test_a_damaged_file_of_the_records_does_not_keep_a_study_from_its_driver(
    gathered: Resources, folder: StudyFolder, damage: Callable[[Path], None]
) -> None:
    """The driver renames the file when it opens the records, after the preflight."""
    sink = ParquetSink(folder.results)
    sink.trial_ended(ended(started(0), Status.COMPLETED, []))
    sink.study_ended([])
    damage(folder.results / "trials.parquet")
    assert preflight.check_disk(gathered, folder, folder.root.parent.parent).problems == ()
    assert ParquetSink(folder.results).unreadable == [folder.results / "trials.parquet"]


def test_checkpoints_are_counted_by_what_each_trial_trains(gathered: Resources) -> None:
    """Five trials of each method on two tasks, two heads, and both tasks' finals; a head has width 24 and 2 outputs."""
    asked = {
        **SMALL,
        "model": gathered.plan.spec.model,
        "adapter": {"method": ["lora", "full"], "rank": 1},
        "search": {"trials": 5, "per_method": True, "baseline_learning_rates": [0.01, 0.001]},
        "finalists": {"top": 2, "seeds": 3},
    }
    plan = make_plan(build_spec(asked, "x.yaml"), "x.yaml")
    low, full = (plan.space.parameters(plan.space.of(name).draw(Random(0))) for name in ("lora", "full"))
    head = plan.geometry.head_parameters(2)
    adapters, heads = 2 * (2 * 5 + 2 * 2 * 3), 2 * (2 + 3)
    found = checkpoints_of(plan)
    assert found.trials == adapters + heads
    assert found.usually == pytest.approx(12 * (adapters * (low + full) / 2 + (adapters + heads) * head))
    assert found.most == pytest.approx(12 * (adapters * full + (adapters + heads) * head))


def test_sizes_that_do_not_go_together_are_passed_over(gathered: Resources) -> None:
    asked = {
        **SMALL,
        "model": gathered.plan.spec.model,
        "adapter": {"method": "compacter", "bottleneck": [5, 6, 7, 8], "phm": [2, 3]},
    }
    space = make_plan(build_spec(asked, "x.yaml"), "x.yaml").space
    assert space.feasible_share() < 0.6
    assert all(map(space.feasible, (largest_points(space)[0], usual_point(space))))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_storage_that_can_not_be_written_is_refused(gathered: Resources, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    found = run_preflight(gathered, StudyFolder(tmp_path / "studies" / "first"), None)
    assert "can't be written: Permission denied" in str(found.problems[0])


def test_workers_that_surely_do_not_fit_are_refused_and_others_are_doubted(gathered: Resources) -> None:
    need = replace(preflight.needed_bytes(gathered), weights=3 * GIGABYTE, worker=4 * GIGABYTE)
    for memory, problems, warnings in ((8, 1, 0), (10, 0, 1), (13, 0, 0)):
        study = replace(gathered, cluster=one_node(3, memory * GIGABYTE))
        found = preflight.check_memory(study, need)
        assert (len(found.problems), len(found.warnings)) == (problems, warnings)
    alone = replace(gathered, cluster=one_node(3, 4 * GIGABYTE), slots=Slots(cpus=1, gpus=0, count=1))
    assert not preflight.check_memory(alone, need).problems


def test_what_a_gpu_says_of_a_first_batch_becomes_warnings(
    gathered: Resources, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = FirstBatch(
        failures={"cola": (Status.OUT_OF_MEMORY, "too large"), "stsb": (Status.FAILED, "KeyError: x")},
        device="Tesla T4",
        lacks_bfloat16=True,
        computes_in="bf16",
        memory_bytes=15 * GIGABYTE,
        peak_bytes=6 * GIGABYTE,
    )
    worker = SimpleNamespace(remote=lambda *asked: card)
    monkeypatch.setattr("ray.remote", lambda **asked: lambda function: worker)
    monkeypatch.setattr("ray.get", lambda result, timeout: result)
    spec = gathered.plan.spec.model_copy(update={"precision": "bf16"})
    study = replace(gathered, plan=replace(gathered.plan, spec=spec), slots=Slots(cpus=1, gpus=0.3, count=3))
    found = preflight.in_the_first_batch(study, folder, preflight.needed_bytes(gathered))
    assert [str(problem) for problem in found.problems] == ["the first batch of stsb: KeyError: x"]
    assert [line.partition(":")[0] for line in found.warnings] == [
        "the first batch of cola with the largest adapter",
        "Tesla T4 is slower in bf16 than in fp32; --set precision=fp32 avoids that",
        "the largest adapter takes more than a GPU has",
    ]
    assert "3 × 6.4 GB, Tesla T4 has 16.1 GB" in found.warnings[2]


def test_a_forked_process_lets_a_worker_train_the_first_batch(
    gathered: Resources, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    worker = SimpleNamespace(remote=lambda *words: FirstBatch(failures={}, computes_in="fp32"))
    monkeypatch.setattr("ray.remote", lambda **words: lambda function: asked.append(words) or worker)
    monkeypatch.setattr("ray.get", lambda result, timeout: result)
    monkeypatch.setattr(preflight, "was_forked", lambda: True)
    monkeypatch.setattr(preflight, "train_first_batch", lambda *words: pytest.fail("it would wait for ever"))
    assert not preflight.in_the_first_batch(gathered, folder, preflight.needed_bytes(gathered)).problems
    assert [words["num_gpus"] for words in asked] == [0]


def test_what_a_study_was_begun_in_is_kept_where_slow(
    gathered: Resources, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_batch, "computes_bfloat16", lambda kind: False)
    auto = gathered.plan.spec.model_copy(update={"precision": "auto"})
    resumed = replace(gathered, plan=replace(gathered.plan, spec=auto, computes_in="bf16"))
    found = preflight.in_the_first_batch(resumed, folder, preflight.needed_bytes(gathered))
    assert (found.problems, found.computes_in) == ((), "bf16")
    assert found.warnings == ("this processor is slower in bf16 than in fp32; the study was begun in it and keeps it",)


def test_a_gpu_that_can_not_compute_in_what_was_begun_is_refused(
    gathered: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla K80")
    elsewhere = replace(gathered.workplace(StudyFolder(Path("x"))), precision="bf16", gpu=True)
    with pytest.raises(
        Refusal, match=r"Tesla K80 can't compute in bf16; go on where there is a GPU that can, or begin"
    ):
        train_first_batch(elsewhere, gathered.prepared.works, {})


def test_a_model_with_a_weight_that_is_no_number_is_refused_and_named() -> None:
    """Every trial would end at its first step, and the study would go on to its end."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    refuse_no_number(model, "models/mine")
    model[1].weight.data[0, 1] = float("nan")
    with pytest.raises(Refusal, match=r"^--model: models/mine: the weight 1\.weight holds a value that is no finite"):
        refuse_no_number(model, "models/mine")


def test_a_node_sees_the_storage_or_is_named(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc", encoding="utf-8")
    good = inspect_node(str(token), "abc", str(tmp_path))
    assert good == NodeReport(unreadable="", unwritable="", sees_model=True, versions=package_versions())
    other = inspect_node(str(token), "another storage's", str(tmp_path / "model"))
    assert (other.unreadable, other.unwritable, other.sees_model) == (*["token is another file there"] * 2, False)
    gone = inspect_node(str(tmp_path / "nothing" / "token"), "abc", str(tmp_path))
    assert "nothing/token" in gone.unreadable
    views = {
        "a": good,
        "b": other,
        "c": replace(good, unwritable="it is read-only"),
        "d": "No module named 'krona_tune'",
    }
    said = [str(refusal) for refusal in node_problems(str(tmp_path), views)]
    assert said == [
        f"--storage: node b does not see {tmp_path} (token is another file there); "
        "name a folder that every node mounts",
        f"--storage: node c can't write in {tmp_path} (it is read-only); mount it writable there",
        "node d: No module named 'krona_tune'; install the same krona_tune on every node",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_workers_and_data_that_both_can_not_be_had_are_refused_together(
    gathered: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(place: str) -> Callable[..., Any]:
        def refused(*_: Any) -> Any:
            raise Refusal(place, "nowhere")

        return refused

    monkeypatch.setattr(cluster, "connect", refuse("--address"))
    monkeypatch.setattr(begin_study, "prepare_data", refuse("--data"))
    with pytest.raises(Refusal) as refused:
        begin_study.gather_resources(gathered.plan, connecting(None))
    assert str(refused.value) == "2 problems:\n  --data: nowhere\n  --address: nowhere"
    one = Refusal("a", "b", "c")
    assert joined([one]) is one


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """Starts a tracking server on this machine that wants a password."""

    class Health(BaseHTTPRequestHandler):
        asked: ClassVar[list[tuple[str, str | None]]] = []

        def do_GET(self) -> None:
            self.asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(401)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Logs nothing."""

    serving = HTTPServer(("127.0.0.1", 0), Health)
    Thread(target=serving.serve_forever, daemon=True).start()
    yield serving
    serving.shutdown()
    serving.server_close()


def test_a_server_that_answers_is_asked_once_and_told_no_password(server: HTTPServer) -> None:
    port = server.server_address[1]
    assert explain_unreachable(f"http://me:hunter2@127.0.0.1:{port}/mlflow/") is None
    assert explain_unreachable(f"postgresql://me:hunter2@127.0.0.1:{port}/db") is None
    assert server.RequestHandlerClass.asked == [("/mlflow/health", None)]  # type: ignore[attr-defined]


def test_the_store_beside_the_studies_is_looked_at_where_no_other_is_named(
    gathered: Resources, folder: StudyFolder
) -> None:
    folder.root.parent.mkdir()
    (folder.root.parent / "mlflow.db").write_text("garbage" * 100)
    [warning] = run_preflight(gathered, folder, None).warnings
    assert "/mlflow.db can't be used (file is not a database); Parquet keeps everything, MLflow what" in warning
    assert run_preflight(gathered, folder, f"sqlite:///{folder.root.parent / 'other.db'}").warnings == ()
