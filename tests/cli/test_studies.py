"""Tests the command line without Ray: a dry run answers at once, and wrong requests are refused and leave nothing."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pytest
import typer

import krona_tune
from krona_tune import cli
from krona_tune.record.ownership import claim, lock_of
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.result import Status
from tests.backbone_folders import BY_NAME, folder_of
from tests.conftest import Run
from tests.language_models import saved_language_model
from tests.record.events import ended, manifest, report, started
from tests.search.models import saved_bert

ROOT = Path(__file__).resolve().parents[2]
SPACES = ROOT / "search_spaces"


def nothing_left() -> bool:
    return not list(Path.cwd().iterdir())


def test_a_dry_run_says_what_would_be_run_and_leaves_nothing(run: Run, model: str) -> None:
    space = str(SPACES / "mini.yaml")
    code, out, err = run("--dry-run", "--tasks", "cola,rte", "--space", space, "--model", model, "--name", "first")
    assert (code, err) == (0, "")
    assert f"{model}, bert, 22,713,216 parameters, local folder" in out
    assert "cola, rte" in out
    assert "mini-GLUE (synthetic)" in out
    assert "a_out {8, 12, 16, 24, 32, 48, 64, 96, 128, 192}" in out
    assert "learning_rate 0.006…0.008 log" in " ".join(out.split())
    assert "studies/first" in out
    for need in ("time    ", "hours   ", "memory  about ", "disk    checkpoints "):
        assert f"\n  {need}" in out
    assert "money" not in out
    assert nothing_left()


def test_a_dry_run_tells_of_the_limit(run: Run, model: str) -> None:
    words = ["--dry-run", "--space", str(SPACES / "mini.yaml"), "--model", model, "--max-params", "10000"]
    code, out, _ = run(*words, "--trials", "7", "--set", "adapter.scale=[1, 2]")
    assert code == 0
    assert "10,000 adapter parameters" in out
    assert "7 a task" in out
    assert "scale {1, 2}" in out


def test_without_a_space_one_is_chosen_and_the_reason_told(run: Run) -> None:
    code, out, _ = run("--dry-run")
    assert code == 0
    assert "mini.yaml (this machine has no GPU)" in out
    assert "cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte" in out


@pytest.mark.parametrize("gpus", [0, 2])
def test_a_model_of_ones_own_gets_a_space_of_its_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    from krona_tune.search.startup import slots

    there = slots.Cluster(nodes=(slots.Node(4, gpus),), dashboard="")
    monkeypatch.setattr(slots, "this_machine", lambda: there)
    model = saved_bert(tmp_path / "bert")
    words = ["--tasks", "cola", "--model", model, "--data", "mini"]
    code, out, _ = run("--dry-run", *words, "--trials", "3", "--set", "adapter.scale=7")
    assert code == 0
    found = "a" if gpus else "no"
    assert f"space   auto (made for model, data and machine; this machine has {found} GPU)" in out
    assert "reasons adapter.a_out: divisors of " in out
    assert " examples.max_length " in out
    assert "search.trials" not in out  # a person gave it
    assert "3 a task" in out
    assert "search  scale" not in out
    assert nothing_left()


def test_a_dry_run_loads_neither_torch_nor_ray(model: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom krona_tune.cli import run_study\n"
        "try: run_study()\nexcept SystemExit as ended: assert not ended.code, ended.code\n"
        "print('loaded:', *{name.partition('.')[0] for name in sys.modules})"
    )
    words = ["--dry-run", "--tasks", "cola", "--space", str(SPACES / "mini.yaml"), "--model", model]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split("loaded:")[1].split())
    assert "krona_tune" in loaded
    assert not loaded & {"torch", "transformers", "ray", "optuna", "mlflow", "datasets"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "clola"], "--tasks: unknown task 'clola', did you mean 'cola'?"),
        (["--tasks", ","], "--tasks: no task in ','; known: glue, cola"),
        (["--set", "adapter.scael=2"], "--set adapter.scael: unknown key 'scael', did you mean 'scale'?"),
        (["--set", "adapter.scale"], "--set: 'adapter.scale' has no '='; write --set adapter.scale=2"),
        (["--set", "adapter.method=kronna"], "adapter.method: unknown method 'kronna', did you mean 'krona'?"),
        (["--set", "methods.lorra.rank=4"], "--set methods.lorra.rank: unknown method 'lorra', did you mean 'lora'?"),
        (["--set", "adapter.method=head_only"], "head_only has nothing to search; it is run as the baseline"),
        (
            ["--set", "adapter.a_out=7"],
            "--set adapter.a_out: a_out 7 does not divide 384, common to all adapted weights; div",
        ),
        (["--set", "examples.max_length=600"], "--set examples.max_length: 600 tokens, "),
        (["--model", "./nowhere"], "--model: no folder './nowhere'; give a folder with config.json and weights"),
        (["--model", "."], "holds no config.json; give the folder of a saved model"),
        (["--data", "./nowhere"], "nowhere"),
        (["--space", "nowhere.yaml"], "nowhere.yaml: can't be read: "),
        (["--trials", "0"], "--trials: 0 is refused; write 1 or more"),
        (["--trials", "x"], "--trials: 'x' is not a number of trials; give a whole number from 1"),
        (["--trials", "-3"], "--trials: '-3' is not a number of trials"),
        (["--max-params", "lots"], "--max-params: 'lots' is refused; write a number of parameters such as 200000, or"),
        (
            ["--max-params", "5"],
            "--max-params: 5 allows 5 parameters, krona's smallest adapter drawn has",
        ),
        (["--time-budget", "soon"], "--time-budget: 'soon' is refused; write a time such as 90s, 20min, 1h30m or 2d"),
        (["--cpus-per-trial", "0"], "--cpus-per-trial: 0.0 is refused; write a number above 0"),
        (
            ["--max-concurrent", "0"],
            "--max-concurrent: 0 is refused; write 1 or more",
        ),
        (["--price", "0"], "--price: 0.0 is refused; write a number above 0"),
        (["--price", "nan"], "--price: nan is refused"),
        (["--cpus-per-trial", "many"], "Invalid value for '--cpus-per-trial'"),
        (["--trails", "3"], "No such option: --trails"),
    ],
)
@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "for real"])
def test_a_wrong_request_ends_with_2_the_fix_and_nothing_left(
    run: Run, model: str, words: list[str], message: str, dry: list[str]
) -> None:
    usual = {"--space": str(SPACES / "mini.yaml"), "--model": model, "--tasks": "cola", "--data": "mini"}
    for flag in words[::2]:
        usual.pop(flag, None)
    code, out, err = run(*dry, *(word for pair in usual.items() for word in pair), *words)
    assert code == 2, (out, err)
    assert message in err
    assert "Traceback" not in err
    assert nothing_left()


def test_an_unknown_task_in_a_space_is_refused(run: Run, model: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"model: {model}\ndata: mini\ntasks: [clola]\n", encoding="utf-8")
    code, _, err = run("--space", str(path))
    assert (code, err) == (2, f"{path}: tasks: unknown task 'clola', did you mean 'cola'?\n")
    assert nothing_left()


def test_a_plan_says_what_it_learns_from(run: Run, model: str) -> None:
    words = ["--dry-run", "--space", str(SPACES / "mini.yaml"), "--model", model, "--tasks", "rte"]
    code, out, _ = run(*words, "--warm-start", "recorded-curves")
    assert code == 0
    assert re.search(r"\n  learns  from recorded-curves, [1-9]\d+ trials\n", out)
    assert "a task by one model of all tasks" in out
    assert "a task by TPE" in run(*words, "--warm-start", "recorded-curves", "--set", "search.sampler=tpe")[1]
    without = run(*words)[1]
    assert "learns" not in without
    assert "a task by TPE" in without


def test_tasks_can_be_set_by_their_path(run: Run, model: str) -> None:
    words = ["--dry-run", "--space", str(SPACES / "mini.yaml"), "--model", model, "--set", "tasks=[rte, cola]"]
    code, out, _ = run(*words)
    assert code == 0
    assert "rte, cola\n" in out


def test_a_space_without_a_model_is_completed_by_the_flag(run: Run, model: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("data: mini\n", encoding="utf-8")
    code, out, err = run("--dry-run", "--space", str(path), "--model", model, "--set", "adapter.scale=[1, 2]")
    assert (code, err) == (0, "")
    assert "cola, sst2" in out


def test_resuming_what_is_not_there_is_refused(run: Run) -> None:
    code, _, err = run("--resume", "nothing")
    assert (code, err.split(":")[:2]) == (2, ["studies", " no study 'nothing'; there are no studies"])
    assert nothing_left()


@pytest.mark.parametrize("words", [("resume", "first", "--trials", "+3"), ("train", "first")])
def test_what_the_driver_before_changed_until_its_end_is_not_taken_back(
    run: Run, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, heard = StudyFolder(Path("studies/first")), list[int]()
    folder.root.mkdir(parents=True)
    folder.spec.write_text("{model: m, name: first, search: {trials: 2}}", encoding="utf-8")
    manifest("cola").write(folder.manifest)

    @contextmanager
    def claim_after_more_trials(folder: StudyFolder) -> Iterator[None]:
        folder.spec.write_text("{model: m, name: first, search: {trials: 9}}", encoding="utf-8")
        with claim(folder):
            yield

    monkeypatch.setattr("krona_tune.cli.studies.claim", claim_after_more_trials)
    monkeypatch.setattr(
        "krona_tune.cli.studies.run_and_report", lambda spec, *_, **__: heard.append(spec.search.trials)
    )
    assert run(*words, program=cli.main)[0] == 0
    assert heard == [9 + 3 * ("--trials" in words)]


def test_a_name_that_is_taken_is_refused(run: Run, model: str) -> None:
    words = ["--space", str(SPACES / "mini.yaml"), "--model", model, "--tasks", "cola", "--name", "first"]
    taken = Path("studies/first")
    taken.mkdir(parents=True)
    (taken / "letter.txt").touch()
    assert run(*words)[::2] == (2, "--name: studies/first is not empty; choose another name\n")
    (taken / "study.yaml").touch()
    code, _, err = run(*words)
    assert code == 2
    assert err == "--name: studies/first holds a study; use --resume first, or choose another name\n"


def test_a_study_that_is_not_there_is_named_with_the_nearest(run: Run) -> None:
    for name in ("first", "second"):
        Path("studies", name).mkdir(parents=True)
        Path("studies", name, "study.yaml").touch()
    code, _, err = run("--resume", "frist")
    assert (code, err) == (2, "studies: unknown study 'frist', did you mean 'first'?\n")
    code, _, err = run("report", "zzz", program=cli.main)
    assert (code, err) == (2, "studies: unknown study 'zzz'; known: first, second\n")


def test_a_study_to_start_warm_from_is_named_or_its_folder_is(run: Run, model: str) -> None:
    earlier = Path("studies/first")
    sink = ParquetSink(earlier / "results")
    manifest("cola").write(earlier / "manifest.json")
    (earlier / "study.yaml").touch()
    sink.trial_started(started(1))
    words = ["--dry-run", "--space", str(SPACES / "mini.yaml"), "--model", model, "--tasks", "cola"]
    for named in ("first", "studies/first"):
        assert run(*words, "--warm-start", named)[::2] == (0, "")
    code, _, err = run(*words, "--warm-start", "frist")
    assert (code, err) == (2, "--warm-start: unknown study 'frist', did you mean 'first'?\n")
    code, _, err = run(*words, "--warm-start", "recorded-curve")
    assert (code, err) == (2, "--warm-start: unknown study 'recorded-curve', did you mean 'recorded-curves'?\n")
    code, _, err = run(*words, "--warm-start", "nonsense")
    assert (code, err) == (2, "--warm-start: unknown study 'nonsense'; known: first, recorded-curves\n")
    (earlier / "results" / "trials.parquet").touch()
    code, _, err = run(*words, "--warm-start", "first")
    assert code == 2
    assert "studies/first/results/trials.parquet: can't be read (ArrowInvalid" in err


def like_the_hub(name: str, configuration: str | None) -> datasets.DatasetDict:
    """Returns a few examples in the columns that a data set of the hub has."""
    if name == "meta-math/MetaMathQA":
        rows = [(f"{n // 2} and {n}?", f"It is: \\frac{{{n}}}{{2}}", str(n // 2)) for n in range(900)]
        columns = ("query", "response", "original_question")
        return datasets.DatasetDict(
            train=datasets.Dataset.from_list([dict(zip(columns, row, strict=True)) for row in rows])
        )
    assert (name, configuration) == ("openai/gsm8k", "main")
    test = datasets.Dataset.from_list([{"question": f"{n} apples?", "answer": f"so\n#### 1,{n:03}"} for n in range(20)])
    return datasets.DatasetDict(train=test, test=test)


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_check_finds_every_space_right(run: Run, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", like_the_hub)
    named = next(line for line in path.read_text().splitlines() if line.startswith("model: ")).removeprefix("model: ")
    folder = folder_of(BY_NAME[named], tmp_path / "model")
    code, out, err = run("check", str(path), "--model", str(folder), program=cli.main)
    assert (code, err) == (0, "")
    assert f"{folder}, " in out
    assert "  search  " in out
    assert "nothing: all is fixed" not in out
    assert nothing_left()


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_check_finds_the_packaged_encoder_itself(run: Run, path: Path) -> None:
    if "MiniLM" not in path.read_text():
        pytest.skip("needs the hub")
    code, out, _ = run("check", str(path), program=cli.main)
    assert code == 0
    assert "sha256 verified" in out


def test_check_refuses_a_wrong_space(run: Run, model: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("model: m\nadapter: {scael: 2}\n", encoding="utf-8")
    code, _, err = run("check", str(path), "--model", model, program=cli.main)
    assert (code, err) == (2, f"{path}: adapter: unknown key 'scael', did you mean 'scale'?\n")


@pytest.mark.parametrize("words", [("report", "first"), ("resume", "first"), ("show", "first"), ("watch", "first")])
def test_a_damaged_manifest_is_refused_before_anything_starts(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    """No Ray is started, no page is written."""
    from krona_tune.search.startup import cluster

    def never(address: str | None, nice: int) -> None:
        raise AssertionError("Ray is started")

    monkeypatch.setattr(cluster, "connecting", never)
    folder = Path("studies/first")
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text("model: tiny\ntasks: [cola]\n", encoding="utf-8")
    (folder / "manifest.json").write_text("{", encoding="utf-8")
    code, _, err = run(*words, program=cli.main)
    assert code == 2
    assert err.startswith("studies/first/manifest.json: is damaged (Invalid JSON: EOF while parsing")
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("damaged", ["results/trials.parquet", "results/reports.parquet", "study.yaml"])
def test_the_page_stays_where_the_records_can_not_be_read(run: Run, damaged: str) -> None:
    folder = Path("studies/first")
    (folder / "results").mkdir(parents=True)
    (folder / "study.yaml").write_text("model: tiny\n", encoding="utf-8")
    (folder / "report.html").write_text("the good page", encoding="utf-8")
    manifest("cola").write(folder / "manifest.json")
    (folder / damaged).write_bytes(b"PAR1: [\xff")
    code, _, err = run("report", "first", program=cli.main)
    assert code == 2
    assert err.startswith(f"studies/first/{damaged}: can't be read (")
    assert (folder / "report.html").read_text(encoding="utf-8") == "the good page"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("results", "results: holds no trial; put the study's records back"),
        ("results/trials.parquet", "results: holds no trial; put the study's records back"),
        ("tasks", "manifest.json: names no task; put back a copy of it"),
    ],
)
def test_no_empty_page_takes_the_place_of_a_good_one(run: Run, missing: str, said: str) -> None:
    folder = StudyFolder(Path("studies/first"))
    sink = ParquetSink(folder.results)
    sink.trial_ended(ended(started(0), Status.COMPLETED, [report(started(0), 0, 0.5)]))
    sink.reported(report(started(0), 0, 0.5))
    sink.study_ended([])
    folder.spec.write_text("model: tiny\n", encoding="utf-8")
    manifest(*(() if missing == "tasks" else ("cola",))).write(folder.manifest)
    folder.page.write_text("the good page", encoding="utf-8")
    if missing != "tasks":
        (folder.root / missing).rename(folder.root / "elsewhere")
    code, _, err = run("report", "first", program=cli.main)
    assert (code, err[: len(said) + 14]) == (2, f"studies/first/{said}")
    assert folder.page.read_text(encoding="utf-8") == "the good page"


def test_the_page_of_a_study_that_runs_says_so(run: Run) -> None:
    folder = StudyFolder(Path("studies/first"))
    ParquetSink(folder.results).trial_started(started(0))
    folder.spec.write_text("model: tiny\n", encoding="utf-8")
    manifest("cola").write(folder.manifest)
    with lock_of(folder):
        run("report", "first", program=cli.main)
    assert "1 running" in folder.page.read_text(encoding="utf-8")
    run("report", "first", program=cli.main)
    assert "1 interrupted" in folder.page.read_text(encoding="utf-8")


def test_the_page_is_written_again_from_the_records(run: Run) -> None:
    folder = Path("studies/first")
    ParquetSink(folder / "results").trial_started(started(0))
    (folder / "study.yaml").write_text("model: tiny\n", encoding="utf-8")
    manifest("cola").write(folder / "manifest.json")
    assert read_manifest(folder / "manifest.json").name == "first-study"
    code, out, _ = run("report", "first", program=cli.main)
    assert code == 0
    assert out.strip().endswith("studies/first/report.html")
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("program", [cli.main, cli.run_study])
def test_the_version_is_printed(run: Run, program: Callable[[], None]) -> None:
    assert run("--version", program=program) == (0, f"krona_tune {krona_tune.__version__}\n", "")


def test_every_flag_of_a_study_has_a_help_text_and_a_panel() -> None:
    command: Any = typer.main.get_command(cli.app)
    options = [each for each in command.commands["run"].params if each.name != "version"]
    assert len(options) > 20
    assert [each.name for each in options if not each.help or not each.rich_help_panel] == []


@pytest.mark.parametrize("program", [cli.main, cli.run_study])
def test_help_names_every_flag_and_verb(run: Run, program: Callable[[], None]) -> None:
    code, out, _ = run("--help", program=program)
    assert code == 0
    words: Any = {
        cli.main: ["run", "resume", "report", "check", "export", "predict"],
        cli.run_study: ["--tasks", "--set", "--resume"],
    }
    assert all(word in out for word in words[program])


def test_a_dry_run_joins_no_cluster_and_asks_for_no_node(run: Run, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from krona_tune.search.startup import cluster

    monkeypatch.setattr(cluster, "connect", lambda address: pytest.fail("the cluster was joined"))
    code, out, err = run("--dry-run", "--address", "auto")
    assert (code, err) == (0, "")
    assert "mini.yaml (this machine has no GPU; the cluster at auto is asked when the study begins)" in out
    for words in (["--model", model], ["--resume", "first"]):
        code, _, err = run("--dry-run", "--address", "ray://head:10001", *words)
        assert (code, "can't be driven through Ray Client" in err) == (2, True)


def test_a_check_says_what_is_odd_about_ones_own_data(run: Run, model: str, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("text,label\n" + "a,Yes\nb,yes\n" * 4)
    (tmp_path / "own.yaml").write_text(
        f"model: {model}\ntasks: {{own: {{data: own.csv, text: text, label: label, split: {{test: 2}}}}}}\n"
    )
    code, out, err = run("check", tmp_path / "own.yaml", program=cli.main)
    assert (code, err) == (0, "")
    assert "warning: own has only 5 train, 1 validation, 2 test examples" in out
    assert "warning: the labels 'Yes' and 'yes' differ only in upper and lower case" in out


def test_a_dry_run_shows_ones_own_data_as_they_are_and_what_a_run_would_warn_of(run: Run, tmp_path: Path) -> None:
    model = saved_language_model(tmp_path / "t5", "t5")
    some = "".join(f"[/b] :x: {number},{'a:b:c' if number % 2 else chr(27) + '[31m:x:'}\n" for number in range(60))
    for part, lines in (("train", some), ("dev", some), ("test", "new,a:b:c\n" * 30)):
        (tmp_path / f"{part}.csv").write_text(f"text,label\n{lines}")
    (tmp_path / "own.yaml").write_text(
        f"model: {model}\nexamples: {{max_length: 30}}\ntasks: {{own: {{data: ., text: text, label: label}}}}\n"
    )
    code, out, _ = run("--space", tmp_path / "own.yaml", "--dry-run")
    assert code == 0
    assert "    → a:b:c" in out
    assert "    → \\x1b[31m:x:" in out
    assert "warning: the 30 test examples of own all have the label 'a:b:c'" in out
    assert "warning: 60 of the 60 validation examples of own are also in train, word for word" in out
    (tmp_path / "own.yaml").write_text("model: m\ntasks: [':x:']\n")
    assert "unknown task ':x:'" in run("--space", tmp_path / "own.yaml", "--dry-run")[2]


@pytest.mark.parametrize(("most", "cut"), [(8, 60), (40, 0)])
def test_a_dry_run_says_how_many_examples_are_cut(run: Run, tmp_path: Path, most: int, cut: int) -> None:
    model = saved_bert(tmp_path / "bert")
    rows = "".join(f"{'the ' * (20 if n % 4 else 2)}{n},{n % 2}\n" for n in range(40))
    for part in ("train", "dev", "test"):
        (tmp_path / f"{part}.csv").write_text(f"text,label\n{rows}")
    (tmp_path / "own.yaml").write_text(
        f"model: {model}\nexamples: {{max_length: {most}}}\ntasks: {{own: {{data: ., text: text, label: label}}}}\n"
    )
    code, out, _ = run("--space", tmp_path / "own.yaml", "--dry-run")
    assert code == 0
    assert f"{cut} of 80 examples are longer than {most} tokens and are cut" in out
    warning = "warning: 75% of the examples of own are cut to 8 tokens; --set examples.max_length=16 reads more"
    assert (warning in out) == bool(cut)


def test_check_plans_the_trials_that_run_plans(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "fixed.yaml"
    model = saved_bert(tmp_path / "model")
    path.write_text(f"model: {model}\ndata: mini\ntasks: [cola]\nexamples:\n  max_length: 40\n")
    for words in (("check", str(path)), ("run", "--space", str(path), "--dry-run")):
        code, out, err = run(*words, program=cli.main)
        assert (code, "1 a task" in " ".join(out.split())) == (0, True), err
