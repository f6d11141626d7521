"""Tests a study that continues, by --resume or a repeated command: which flags it accepts and which it refuses."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from krona_tune import cli
from krona_tune.api.exit_status import ExitStatus
from krona_tune.api.study_request import no_more_than_points
from krona_tune.cli import studies
from krona_tune.record.orders import waiting_orders
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.refusal import NotNow
from krona_tune.search.driver_options import DriverOptions
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest
from krona_tune.study.order import Order
from krona_tune.study.request.loader import dump_spec, dump_yaml, load_spec
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.settings import FLAGS
from krona_tune.train.backbone_source import IN_FOLDER, find_backbone
from tests.cli.flags import options_of
from tests.conftest import Run
from tests.record.events import manifest
from tests.study.final_rows import row
from tests.study.request.written_specs import spec_of

SPACE = """
model: {model}
data: mini
adapter: {{a_out: [8, 12], a_in: [8, 12], scale: [1, 2, 4]}}
search: {{trials: 4, time_budget: 600}}
"""
BEGUN = ["--tasks", "cola,rte", "--seed", "0", "--set", "adapter.scale=[1, 2]", "--max-params", "200_000"]
"""The settings with which the study `first` was begun, besides its space."""


@pytest.fixture
def space(model: str, tmp_path: Path) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(SPACE.format(model=model), encoding="utf-8")
    return str(path)


@pytest.fixture
def first(run: Run, space: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Writes the study `first` in the folder where programs run, begun with BEGUN, with two recorded trials."""
    kept: list[StudySpec] = []
    with monkeypatch.context() as patch:
        patch.setattr(studies, "run_and_report", lambda spec, *rest, **flags: kept.append(spec))
        run("--space", space, "--name", "first", *BEGUN)
    folder = Path("studies/first")
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(dump_spec(kept[0]), encoding="utf-8")
    sink = ParquetSink(folder / "results")
    for number in range(2):
        sink.trial_ended(row(f"00{number}", "search", 0.5, number=number))
    sink.study_ended([])
    return folder


def test_resume_offers_the_settings_that_may_change_and_run_all() -> None:
    each = {f"--{name.replace('_', '-')}" for name in studies.OF_A_START}
    own = {"--space", "--set", "--name", "--or-resume", "--resume", "--version"}
    assert options_of(studies.run) == FLAGS.keys() | each | own
    assert options_of(studies.resume) == {flag for flag, row in FLAGS.items() if row.changes} | {"--set"} | each


def test_a_resumed_study_is_not_given_fewer_trials_than_a_task_has_begun(run: Run, first: Path) -> None:
    sink = ParquetSink(first / "results")
    for number in (2, -1, -2):  # a trial and two clones, for which nobody gave a number
        sink.trial_ended(row(f"00{number}", "search", 0.5, number=number))
    sink.study_ended([])
    code, _, err = run("--resume", "first", "--trials", "2", "--dry-run")
    assert code == 2
    assert err.startswith("--trials: rte has begun 3 trials of its search, more than 2; write 3 or more"), err
    assert [run("--resume", "first", "--trials", more, "--dry-run")[0] for more in ("3", "4", "+1")] == [0, 0, 0]


def test_with_several_methods_each_may_have_that_many_trials(run: Run, first: Path) -> None:
    request = load_spec(first / "study.yaml").plain()
    request["search"] |= {"per_method": True, "taught": False}
    request["adapter"]["method"] = ["krona", "lora"]
    (first / "study.yaml").write_text(dump_yaml(request), encoding="utf-8")
    sink = ParquetSink(first / "results")
    for number in range(4, 7):
        sink.trial_ended(row(f"00{number}", "search", 0.5, number=number, params={"method": "lora"}))
    sink.study_ended([])
    code, _, err = run("--resume", "first", "--trials", "2", "--dry-run")
    assert code == 2
    assert err.startswith("--trials: lora on rte has begun 3 trials of its search, more than 2; write 3 or more"), err
    assert run("--resume", "first", "--trials", "3", "--dry-run")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--tasks", "cola"],
        ["--space", "x.yaml"],
        ["--set", "adapter.scale=3"],
        ["--name", "y"],
        ["--model", "m"],
        ["--data", "mini"],
        ["--seed", "3"],
        ["--seed", "0"],
        ["--max-params", "90%"],
        ["--warm-start", "z"],
        ["--objective", "score"],
        ["--shared"],
        ["--per-task"],
        ["--or-resume"],
    ],
    ids=" ".join,
)
def test_a_resumed_study_refuses_by_name_what_it_can_not_take(run: Run, words: list[str]) -> None:
    by = " ".join(words).partition("=")[0] if words[0] == "--set" else words[0]
    code, _, err = run("--resume", "first", *words)
    assert (code, err) == (2, f"{by}: a resumed study keeps what it was begun with; leave {by} out\n")


TAKEN = [
    (["--trials", "9"], "search.trials", 9),
    (["--trials", "+5"], "search.trials", 9),
    (["--time-budget", "1h"], "search.time_budget", 3600.0),
    (["--cpus-per-trial", "2"], "resources.cpus_per_trial", 2.0),
    (["--gpus-per-trial", "0"], "resources.gpus_per_trial", 0.0),
    (["--max-concurrent", "3"], "resources.max_concurrent", 3),
    (["--price", "2.10"], "resources.price_per_hour", 2.1),
    (["--set", "search.trials=9"], "search.trials", 9),
    (["--set", "search.examples_budget=1000"], "search.examples_budget", 1000),
    (["--set", "resources={keep_checkpoints: all}"], "resources.keep_checkpoints", "all"),
]


@pytest.mark.parametrize(("words", "key", "value"), TAKEN, ids=[" ".join(row[0]) for row in TAKEN])
@pytest.mark.parametrize("way", ["--resume", "resume", "--or-resume"])
def test_what_a_resumed_study_takes_changes_its_request_and_nothing_else(
    run: Run,
    first: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    words: list[str],
    key: str,
    value: object,
) -> None:
    kept: list[StudySpec] = []
    monkeypatch.setattr(studies, "run_and_report", lambda spec, *rest, **flags: kept.append(spec))
    if way == "--or-resume" and words[1].startswith("+"):
        code, _, err = run("--or-resume", "--name", "first", *words)
        assert (code, err) == (2, "--trials: '+5' is not a number of trials; give a whole number from 1\n")
        return
    program = cli.main if way == "resume" else cli.run_study
    named = {"resume": ["resume", "first"], "--resume": ["--resume", "first"], "--or-resume": [way, "--name", "first"]}
    assert run(*named[way], *words, program=program)[::2] == (0, "")
    section, name = key.split(".")
    before = load_spec(first / "study.yaml").plain()
    before[section][name] = value
    assert kept[0].plain() == before


def test_a_repeated_command_leaves_what_an_order_has_changed_since_and_a_resume_does_not(
    run: Run, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order has written 40 into the request, as a driver does."""
    kept: list[StudySpec] = []
    keys: list[Sequence[str]] = []

    def begin(spec: StudySpec, place: str, reason: str, folder: StudyFolder, told: DriverOptions, **_: object) -> None:
        kept.append(spec)
        keys.append(told.keys)

    monkeypatch.setattr(studies, "run_and_report", begin)
    request = load_spec(first / "study.yaml").plain()
    request["search"]["trials"] = 40
    (first / "study.yaml").write_text(dump_yaml(request), encoding="utf-8")
    sink = ParquetSink(first / "results")
    sink.ordered(Order(id="20310101T000000Z-abcdef", what="trials", value="+20", by="ann", state="done", made="40"))
    sink.study_ended([])
    again = ["--or-resume", "--name", "first", "--set", "search={trials: 20}", "--max-concurrent", "1"]
    code, _, err = run(*again)
    assert code == 0
    assert "ann ordered trials +20 since the study began, and it has 40; krona-tune resume first --set" in err
    run("--resume", "first", "--trials", "20")
    assert [spec.search.trials for spec in kept] == [40, 20]
    assert keys == [["resources.max_concurrent"], ["search.trials"]]


@pytest.mark.parametrize(
    "words",
    [["--set", "search={trials: 20}"], ["--set", "finalists={top: 0, budget: 20}"]],
    ids=["a section", "what a new study settles"],
)
def test_the_same_command_goes_on_with_its_study(
    run: Run, space: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The space says of the search, and the study has settled, what the words replace."""
    kept: list[StudySpec] = []
    monkeypatch.setattr(studies, "run_and_report", lambda spec, *rest, **flags: kept.append(spec))
    path = Path(space)
    path.write_text(
        path.read_text(encoding="utf-8").replace("trials: 4", "trials: 4, startup_trials: 2"), encoding="utf-8"
    )
    command = ["--space", space, "--name", "again", "--tasks", "cola", *words]
    assert run(*command)[0] == 0
    folder = Path("studies/again")
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(dump_spec(kept[0].settled()), encoding="utf-8")
    code, _, err = run(*command, "--or-resume")
    assert (code, err) == (0, "")


@pytest.mark.parametrize("way", [["--resume", "first"], ["--or-resume", "--name", "first"]], ids=["resume", "or"])
def test_a_dry_run_of_a_study_that_goes_on_says_what_would_go_on_and_starts_nothing(
    run: Run, first: Path, monkeypatch: pytest.MonkeyPatch, way: list[str]
) -> None:
    monkeypatch.setattr("krona_tune.search.startup.cluster.connecting", lambda address: pytest.fail("Ray was started"))
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    code, out, err = run(*way, "--dry-run", "--trials", "9")
    assert (code, err) == (0, "")
    assert "studies/first/study.yaml (the study is resumed; trials recorded: 2)" in out
    assert "scale {1, 2}" in out
    assert "9 a task" in out
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before


def test_a_refused_command_lifts_no_ordered_end_of_the_search(
    run: Run, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next plain command would go on with a search that a person has ended."""

    def connecting(*asked: object) -> None:
        raise NotNow("Ray", "it could not be started")

    monkeypatch.setattr("krona_tune.search.startup.cluster.connecting", connecting)
    sink = ParquetSink(first / "results")
    sink.ordered(Order(id="20260301T101010Z-0123456789ab", what="stop", by="ann", given_at=1.0, state="done"))
    sink.study_ended([])
    assert run("resume", "first", "--trials", "9", program=cli.main)[0] == ExitStatus.NOT_NOW
    assert not waiting_orders(StudyFolder(first))


def test_a_repeated_command_goes_on_with_what_it_began(run: Run, first: Path, space: str, model: str) -> None:
    words = ["--or-resume", "--name", "first", "--dry-run"]
    for said in (["--space", space, *BEGUN], BEGUN, ["--model", model, "--data", "mini", "--per-task"], []):
        code, out, err = run(*words, *said)
        assert (code, err) == (0, ""), said
        assert "the study is resumed" in out


def test_a_limit_that_is_lifted_is_lifted(run: Run, first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[StudySpec] = []
    monkeypatch.setattr(studies, "run_and_report", lambda spec, *rest, **flags: kept.append(spec))
    assert load_spec(first / "study.yaml").search.time_budget == 600
    assert run("--or-resume", "--name", "first", "--set", "search.time_budget=null")[0] == 0
    assert kept[0].search.time_budget is None


def test_a_study_with_more_trials_by_now_is_repeated_with_the_space_it_was_begun_with(
    run: Run, first: Path, space: str
) -> None:
    written = (first / "study.yaml").read_text()
    (first / "study.yaml").write_text(written.replace("trials: 4", "trials: 24"))
    Path(space).write_text(f"{Path(space).read_text()}resources: {{stored_states_gb: 0}}\n")
    code, out, err = run("--or-resume", "--name", "first", "--dry-run", "--space", space, *BEGUN)
    assert code == 0
    assert "24 a task" in out
    said = f"resources.stored_states_gb of {Path(space).name} is not taken: the study has 2.0; krona-tune resume"
    assert said in err
    code, _, err = run(
        "--or-resume", "--name", "first", "--dry-run", "--space", space, *BEGUN, "--set", "resources.stored_states_gb=0"
    )
    assert (code, said in err) == (0, False)


DIFFERENT = [
    (["--tasks", "cola"], "--tasks", "cola, rte, not cola"),
    (["--seed", "7"], "--seed", "0, not 7"),
    (["--set", "adapter.scale=[1, 4]"], "--set adapter.scale", "1, 2, not 1, 4"),
    (["--set", "adapter={a_out: 8}"], "--set adapter", "adapter.a_in 8, 12, not adapter.a_in nothing"),
    (["--set", "search.per_method=true"], "--set search.per_method", "False, not True"),
    (["--set", "backbone.narrow=true"], "--set backbone.narrow", "False, not True"),
    (["--max-params", "100000"], "--max-params", "200000, not 100000"),
    (["--data", "hub"], "--data", "mini, not hub"),
    (["--model", "other"], "--model", "minilm, not other"),
    (["--objective", "pareto"], "--objective", "score, not pareto"),
    (["--shared"], "--shared", "False, not True"),
    (["--warm-start", "first"], "--warm-start", "nothing, not "),
]


@pytest.mark.parametrize(("words", "flag", "both"), DIFFERENT, ids=[" ".join(row[0]) for row in DIFFERENT])
def test_another_value_than_the_study_was_begun_with_is_refused_with_both(
    run: Run, first: Path, words: list[str], flag: str, both: str
) -> None:
    code, out, err = run("--or-resume", "--name", "first", "--dry-run", *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"{flag}: the study 'first' was begun with ")
    assert both in err
    assert err.endswith("; repeat what it was begun with, or choose another name\n")


def test_a_study_goes_on_with_a_shipped_space_that_learned_to_leave_out_what_a_model_lacks(
    run: Run, first: Path, space: str
) -> None:
    Path(space).write_text(f"{Path(space).read_text(encoding='utf-8')}\nbackbone: {{narrow: true}}\n", encoding="utf-8")
    code, out, err = run("--or-resume", "--name", "first", "--dry-run", "--space", space, *BEGUN)
    assert code == 0, out + err


def test_another_space_is_refused_with_the_first_key_that_differs(run: Run, first: Path, space: str) -> None:
    code, _, err = run("--or-resume", "--name", "first", "--dry-run", "--space", space)
    assert code == 2
    assert "--space: the study 'first' was begun with adapter.scale 1, 2, not adapter.scale 1, 2, 4; repeat" in err


def test_a_retry_needs_a_name(run: Run) -> None:
    code, _, err = run("--or-resume")
    assert (code, err) == (2, "--or-resume: a study is found again by its name; give it one with --name\n")


EDITED = [
    ("a_out:\n  - 8\n  - 12", "a_out:\n  - 8", "adapter.a_out was [8, 12] when the study began"),
    ("seed: 0", "seed: 7", "seed was the default when the study began"),
]


@pytest.mark.parametrize(("text", "edited", "said"), EDITED)
def test_a_request_that_was_edited_by_hand_is_refused_when_its_study_goes_on(
    run: Run, first: Path, text: str, edited: str, said: str
) -> None:
    path = first / "study.yaml"
    spec = load_spec(path)
    manifest().model_copy(update={"request": spec.kept()}).write(first / "manifest.json")
    written = path.read_text(encoding="utf-8")
    assert text in written
    path.write_text(written.replace(text, edited), encoding="utf-8")
    status, _, err = run("--resume", "first", "--trials", "+1", "--dry-run")
    assert (status, said in err) == (2, True), err


def of_its_model(spec: Path) -> Manifest:
    """Returns a manifest with the weights that a request names."""
    found, weights = manifest(), find_backbone(load_spec(spec).model).fingerprint
    return found.model_copy(update={"model": found.model.model_copy(update={"fingerprint": weights})})


def test_what_may_be_given_anew_may_also_be_edited(run: Run, first: Path) -> None:
    path = first / "study.yaml"
    of_its_model(path).model_copy(update={"request": load_spec(path).kept()}).write(first / "manifest.json")
    text = path.read_text(encoding="utf-8")
    assert "trials: 4" in text
    path.write_text(text.replace("trials: 4", "trials: 9"), encoding="utf-8")
    assert run("--resume", "first", "--dry-run")[0] == 0


def test_a_study_whose_manifest_does_not_tell_its_request_goes_on(run: Run, first: Path) -> None:
    of_its_model(first / "study.yaml").write(first / "manifest.json")
    assert run("--resume", "first", "--dry-run")[0] == 0


def test_a_dry_run_refuses_other_weights_than_the_study_began_with(run: Run, first: Path) -> None:
    manifest().write(first / "manifest.json")
    code, _, err = run("--resume", "first", "--dry-run")
    assert (code, err.startswith("--resume: the model was abc123, now it is ")) == (2, True)


def test_a_study_whose_model_was_moved_is_told_how_it_goes_on(run: Run, first: Path) -> None:
    found, path = manifest(), first / "study.yaml"
    found.model_copy(update={"model": found.model.model_copy(update={"source": IN_FOLDER})}).write(
        first / "manifest.json"
    )
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(load_spec(path).model, "/gone/model"), encoding="utf-8")
    said = "put back there what the study was begun with; a link to where it is now will do"
    assert run("--resume", "first", "--dry-run")[2] == f"--model: no folder '/gone/model'; {said}\n"


@pytest.mark.parametrize(
    ("more", "trials"),
    [
        (["--set", "adapter.scale=2"], "1 a task, and"),
        (
            ["--set", "adapter.scale=2", "--trials", "5"],
            "5 a task (one is trained: others would repeat it)",
        ),
        (["--set", "adapter.scale=2", "--set", "search.trials=6"], "6 a task (one is trained"),
        (["--set", "adapter.scale=[2]", "--set", "adapter.rank=[1, 2]"], "1 a task, and"),
        ([], "3 a task by TPE, and"),
        (["--trials", "4"], "4 a task by TPE (3 at most are trained: others would repeat them), and"),
        (["--set", "training.batch_size={low: 8, high: 9}"], "4 a task by TPE, and"),
        (["--set", "training.warmup={low: 0.1, high: 0.2}"], "4 a task by TPE, and"),
        (["--set", "adapter.a_in=divisors", "--set", "adapter.scale=2"], "4 a task by TPE, and"),
    ],
)
def test_no_more_trials_are_planned_than_the_space_has_points(
    run: Run, space: str, more: list[str], trials: str
) -> None:
    sizes = ["--set", "adapter.a_out=8", "--set", "adapter.a_in=12"]
    code, out, err = run("--dry-run", "--space", space, "--tasks", "cola", *sizes, *more)
    assert (code, err) == (0, "")
    assert trials in " ".join(out.split())
    assert ("nothing: all is fixed" in out) == ("1 a task" in trials or "one is" in trials)


@pytest.mark.parametrize(
    ("per_method", "given", "trials"), [("false", [], 6), ("true", [], 5), ("false", ["search.trials"], 40)]
)
def test_each_method_has_the_points_of_what_it_reads(per_method: str, given: list[str], trials: int) -> None:
    written = (
        "model: m\nadapter: {method: [krona, lora], rank: [1, 2, 3, 4, 5], a_out: 8, a_in: 8, scale: 2}\n"
        f"search: {{trials: 40, per_method: {per_method}}}"
    )
    assert no_more_than_points(spec_of(written), given).search.trials == trials


def test_a_range_of_a_field_of_peft_may_be_of_real_numbers() -> None:
    written = "model: m\nadapter: {method: 'peft:LoRA', lora_alpha: {low: 1, high: 2}, r: [1, 2]}"
    assert no_more_than_points(spec_of(written), ()).search.trials == 12
    written = "model: m\nadapter: {method: 'peft:LoRA', lora_alpha: [1, 2], r: [1, 2]}"
    assert no_more_than_points(spec_of(written), ()).search.trials == 4


def test_tasks_that_a_flag_and_a_setting_name_are_refused(run: Run, space: str) -> None:
    code, _, err = run("--dry-run", "--space", space, "--tasks", "cola", "--set", "tasks=[rte]")
    assert code == 2
    assert "--set tasks: --tasks names the tasks too; leave one of them out" in err
