"""Tests what a study's manifest says when it begins and when it goes on, without Ray and without data."""

import errno
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from krona_tune.data.metrics import code_of_functions_digest, functions_digest
from krona_tune.data.tasks import TASKS
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.refusal import Refusal
from krona_tune.search.budget import Rates
from krona_tune.search.planning.plan import make_plan
from krona_tune.search.startup.begin_study import DriverContext, Resources, begin_study, refuse_changed
from krona_tune.search.startup.slots import Cluster, Node, Slots, slots
from krona_tune.study.devices import Devices
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest, PlanFacts, read_manifest
from krona_tune.study.request.loader import load_spec
from krona_tune.study.request.study_spec import ResourcesSpec, StudySpec
from krona_tune.train import device
from tests.record.events import manifest
from tests.study.final_rows import row

FOUR_CORES, ONE_GPU = Slots(cpus=4, gpus=0, count=2), Slots(cpus=1, gpus=1, count=1)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    found = StudyFolder(tmp_path / "first")
    found.root.mkdir()
    return found


def resources(model: str, slots: Slots, **request: Any) -> Resources:
    """Returns a study without data that has these slots, which its request asks for."""
    resources = {"cpus_per_trial": slots.cpus, "gpus_per_trial": slots.gpus}
    asked = {"model": model, "tasks": ["rte"], "data": "mini", "resources": resources, **request}
    plan = make_plan(StudySpec.model_validate(asked), "here")
    nothing: Any = SimpleNamespace(facts={}, vocabulary="", splitting="")
    return Resources(
        plan=plan, cluster=Cluster(nodes=(), dashboard=""), slots=slots, source=plan.source, prepared=nothing
    )


def begun(study: Resources, folder: StudyFolder) -> DriverContext:
    return begin_study(study, folder, "the command")


def test_a_study_with_records_and_no_manifest_is_not_begun_anew(model: str, folder: StudyFolder) -> None:
    begun(resources(model, FOUR_CORES), folder)
    folder.manifest.unlink()
    begun(resources(model, FOUR_CORES), folder)
    ParquetSink(folder.results).trial_started(row("000", "search", None))
    folder.manifest.unlink()
    with pytest.raises(Refusal, match=r"manifest\.json: is missing; put back a copy of it"):
        begun(resources(model, FOUR_CORES), folder)


@pytest.mark.parametrize("first", ["bf16", "fp32"])
def test_a_study_that_goes_on_elsewhere_keeps_what_it_computes_in(
    monkeypatch: pytest.MonkeyPatch, model: str, folder: StudyFolder, first: Any
) -> None:
    monkeypatch.setattr(device, "computes_bfloat16", lambda kind: first == "bf16")
    new = begun(resources(model, FOUR_CORES), folder)
    assert (new.plan.precision, new.manifest.computes_in, new.workplace(folder).precision) == ("auto", first, first)
    monkeypatch.setattr(device, "computes_bfloat16", lambda kind: first != "bf16")
    kept = resources(model, FOUR_CORES).computing_in(new.manifest.computes_in)
    resumed = begun(kept, folder)
    assert (resumed.plan.precision, resumed.workplace(folder).precision) == (first, first)
    assert resumed.manifest.precision == new.manifest.precision


def test_what_the_workers_found_faster_is_kept_where_the_driver_can_not_tell(model: str, folder: StudyFolder) -> None:
    elsewhere = resources(model, ONE_GPU)
    assert begun(elsewhere, folder).manifest.precision == "auto"
    assert begun(elsewhere.computing_in("bf16"), folder).manifest.precision == "bfloat16"


def test_another_precision_is_refused_after_the_study_began(model: str, folder: StudyFolder) -> None:
    begun(resources(model, FOUR_CORES, precision="bf16"), folder)
    with pytest.raises(Refusal, match="the precision was bfloat16, now it is float32; put back what the study"):
        begun(resources(model, FOUR_CORES, precision="fp32"), folder)


def test_a_study_that_goes_on_elsewhere_still_knows_what_its_first_trials_had(model: str, folder: StudyFolder) -> None:
    small = ResourcesSpec(cpus_per_trial=1)
    assert begun(resources(model, FOUR_CORES, precision="fp32"), folder).manifest.earlier_devices is None
    for machine in (ONE_GPU, replace(FOUR_CORES, cpus=7)):
        manifest = begun(resources(model, machine, precision="fp32"), folder).manifest
        assert manifest.unrecorded_devices(small) == Devices(kind="cpu", count=4)
    assert manifest.device == "cpu"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Returns a folder with a metric's file and the file that it imports."""
    (tmp_path / "costs.py").write_text("import helper\ncost = helper.cost\n")
    (tmp_path / "helper.py").write_text("def cost(labels, answers):\n    return 1.0\n")
    return tmp_path


def now(code: Path) -> Manifest:
    """Returns the manifest of a study that starts now, with this code."""
    task, written = replace(TASKS["rte"], functions=(("cost", f"{code}/costs.py:cost"),)), manifest("rte")
    digests = {"functions": functions_digest(task), "code_of_functions": code_of_functions_digest(task)}
    facts = written.tasks["rte"].model_copy(update=digests)
    return written.model_copy(update={"tasks": {"rte": facts}})


def test_a_study_goes_on_with_the_same_code(code: Path) -> None:
    refuse_changed(now(code), now(code))


def test_a_study_does_not_go_on_with_another_helper_of_its_metric(code: Path) -> None:
    earlier = now(code)
    (code / "helper.py").write_text("def cost(labels, answers):\n    return 2.0\n")
    with pytest.raises(Refusal, match=r"--resume: the metric of rte, with what its file imports from its folder, was "):
        refuse_changed(earlier, now(code))


def test_a_study_does_not_go_on_with_labels_of_other_names(code: Path) -> None:
    def named(labels: tuple[str, ...] | None) -> Manifest:
        found = now(code)
        return found.model_copy(update={"tasks": {"rte": found.tasks["rte"].model_copy(update={"labels": labels})}})

    refuse_changed(named(("bad", "good")), named(("bad", "good")))
    refuse_changed(named(None), named(("bad", "good")))
    with pytest.raises(Refusal, match=r"labels of rte was \['bad', 'good'\], now it is \['bad', 'great'\]; "):
        refuse_changed(named(("bad", "good")), named(("bad", "great")))


def test_a_study_does_not_go_on_with_a_tokenizer_that_reads_its_texts_otherwise(code: Path) -> None:
    def read(vocabulary: str, tokens: str) -> Manifest:
        found = now(code)
        facts = {"rte": found.tasks["rte"].model_copy(update={"tokens": tokens})}
        model = found.model.model_copy(update={"vocabulary": vocabulary})
        return found.model_copy(update={"model": model, "tasks": facts})

    before, words, tokens = read("a" * 64, "b" * 64), read("c" * 64, "b" * 64), read("a" * 64, "d" * 64)
    refuse_changed(before, before)
    refuse_changed(read("", ""), words)  # of an earlier version
    with pytest.raises(Refusal, match=r"the vocabulary of the model's tokenizer was a{12}, now it is c{12}; put back"):
        refuse_changed(before, words)
    with pytest.raises(Refusal, match=r"the tokenization of rte was b{12}, now"):
        refuse_changed(before, tokens)


def test_a_study_does_not_go_on_with_another_configuration_of_its_model(code: Path) -> None:
    def made(**config: object) -> Manifest:
        found = now(code)
        return found.model_copy(update={"model": found.model.model_copy(update={"config": config})})

    before = made(heads=4, eps=1e-12)
    refuse_changed(before, made(heads=4, eps=1e-12, added=1))
    refuse_changed(made(), before)  # of an earlier version
    with pytest.raises(Refusal, match=r"heads in the model's config\.json was 4, now it is 2; put back"):
        refuse_changed(before, made(heads=2, eps=1e-12))


def test_an_older_study_is_compared_by_what_it_recorded(code: Path) -> None:
    earlier = now(code)
    old = earlier.model_copy(
        update={"tasks": {"rte": earlier.tasks["rte"].model_copy(update={"code_of_functions": ""})}}
    )
    (code / "helper.py").write_text("def cost(labels, answers):\n    return 2.0\n")
    refuse_changed(old, now(code))
    (code / "costs.py").write_text("import helper\n\ncost = helper.cost\n")
    with pytest.raises(Refusal, match="the metric function of rte was "):
        refuse_changed(old, now(code))


@pytest.mark.parametrize("resumed", [False, True])
def test_a_disk_that_is_full_is_refused_and_of_a_new_study_nothing_is_left(
    model: str, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    if resumed:
        begun(resources(model, FOUR_CORES), folder)
    before = {path.name: path.read_text() for path in folder.root.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Manifest, "write", full)
    said = (
        rf"first: the study's request .*No space left on device\); free.*, then {'resume' if resumed else 'begin'} the"
    )
    with pytest.raises(Refusal, match=said):
        begun(resources(model, FOUR_CORES, search={"trials": 99}), folder)
    assert {path.name: path.read_text() for path in folder.root.iterdir()} == before


@pytest.mark.parametrize(
    ("allowed", "asked", "grows", "most"),
    [
        (2, None, False, 2),
        (50, None, True, 12),
        (8, 3, False, 8),
        (0, 3, False, 1),
        (40, 20, True, 20),
        (40, 20, False, 12),
    ],
)
def test_as_many_trials_run_at_once_as_are_allowed_and_have_room(
    allowed: int, asked: int | None, grows: bool, most: int
) -> None:
    nodes = Cluster(nodes=(Node(10, 2), Node(6, 1)), dashboard="", grows=grows)
    resources = ResourcesSpec(gpus_per_trial=0.25, max_concurrent=asked)
    started: Any = SimpleNamespace(cluster=nodes, slots=slots(nodes, resources))
    started.room = Resources.room.__get__(started)
    assert Resources.rates(started, allowed) == Rates(devices=0.25, slots=most)


def test_the_reasons_of_a_space_are_in_the_manifest_and_change_nothing(model: str, folder: StudyFolder) -> None:
    why = {"examples.max_length": "95 % of the texts"}
    new = begun(resources(model, FOUR_CORES, reasons=why), folder)
    assert (new.manifest.reasons, load_spec(folder.spec).reasons) == (why, why)
    without = begun(resources(model, FOUR_CORES), folder).plan.spec
    assert without.settings() == new.plan.spec.settings()
    assert without.kept() == new.manifest.request


def test_the_manifest_says_what_the_plan_has_decided(model: str, folder: StudyFolder) -> None:
    """peft has no bitfit, so that two methods are left of three, each with trials of its own."""
    adapter = {"method": ["krona", "bitfit", "lora"], "a_out": 4, "a_in": 4}
    search = {"trials": 5, "per_method": True, "taught": False}
    by_method = resources(model, FOUR_CORES, adapter=adapter, deploy="peft", search=search)
    assert by_method.plan.trials == 2 * 5
    assert begun(by_method, folder).manifest.planned == PlanFacts(methods=2, exact_cutoff=True)
    fixed = {**adapter, "method": "krona", "scale": [1.0, 3.0, 5.0]}
    plan = begun(resources(model, FOUR_CORES, adapter=fixed, finalists={"default": True}), folder).plan
    assert plan.default is not None
    read = read_manifest(folder.manifest).planned
    assert read == plan.planned == PlanFacts(compares=True, default=dict(plan.default), exact_cutoff=True)


def test_neither_the_first_command_nor_a_later_one_leaves_its_password(model: str, folder: StudyFolder) -> None:
    study = resources(model, FOUR_CORES, precision="fp32")
    for _ in range(3):
        begin_study(study, folder, "krona-tune resume first --tracking-uri http://ann:hunter2@host:5000")
    assert "hunter2" not in folder.manifest.read_text(encoding="utf-8")
    assert len(read_manifest(folder.manifest).resumed_by) == 2
