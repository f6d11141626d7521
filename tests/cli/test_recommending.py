"""Tests that a configuration is recommended as text, as JSON and as a space that trains it, and nothing is left."""

import json
import re
from pathlib import Path

import pytest

import krona_tune
from krona_tune.cli import main
from krona_tune.search.startup import estimate, needs
from krona_tune.study.formatting import format_duration
from krona_tune.study.request.loader import parse_spec
from tests.conftest import Run
from tests.search.models import saved_bert

WORDS = ("recommend", "--space", "mini", "--tasks", "cola,stsb")


@pytest.mark.parametrize("form", ["text", "json", "yaml"])
def test_a_recommendation_is_printed_in_each_form_and_trains_nothing(run: Run, model: str, form: str) -> None:
    code, out, err = run(*WORDS, "--model", model, "--format", form, program=main)
    assert (code, err) == (0, "")
    assert not list(Path.cwd().iterdir())
    study = krona_tune.Study(space="mini", tasks="cola,stsb", model=model, name="asked")
    view = study.recommend()
    if form == "text":
        assert out.startswith("  use     krona, ")
        assert "(near the best of the curves that teach it)" in out
        for task in ("cola", "stsb"):
            assert f"  {task}    score not known: the recorded trainings are on real texts" in out
        for name in ("time    ", "memory  about ", "train   krona-tune recommend --space mini"):
            assert f"\n  {name}" in out
        assert "--format yaml > recommended.yaml && krona-tune run --space recommended.yaml" in out
    elif form == "json":
        found = json.loads(out)
        assert found.keys() == view.plain.keys()
        assert (found["point"], found["taught"]) == (view.plain["point"], True)
        assert found["tasks"] == view.plain["tasks"]
        assert 0 < found["seconds"][0] < found["seconds"][1]
        assert found["memory_bytes"] > 10**8
    else:
        spec = parse_spec(out, "recommended.yaml", Path.cwd())
        assert not spec.searches
        assert (spec.tasks, spec.search.trials) == (("cola", "stsb"), 1)
        assert {name: domain.value for name, domain in spec.adapter.items()}.items() <= view.plain["point"].items()


def test_a_probe_says_what_it_trains_and_leaves_nothing_here(run: Run, tmp_path: Path) -> None:
    model = saved_bert(tmp_path / "bert")
    words = ("--space", "mini", "--tasks", "cola,stsb", "--model", model, "--set", "adapter.a_out=2")
    small = (
        "--set",
        "adapter.a_in=2",
        "--set",
        "examples.train=16",
        "--set",
        "examples.validation=8",
        "--set",
        "examples.max_length=40",
    )
    code, out, err = run("recommend", "--probe", *words, *small, program=main)
    assert code == 0
    first, *others = err[err.index("training a third") :].splitlines()  # after what saving the model has said
    assert re.fullmatch("training a third of it on each task, .+ to .+ in all", first)
    assert others == ["  cola", "  stsb"]
    for task in ("cola", "stsb"):
        assert re.search(rf"^  {task}    after \d+% of its training, [^;]+; .*score not known: .*synthetic", out, re.M)
    assert "--probe" not in out, "the commands that train it whole need none"
    assert not list(Path.cwd().iterdir())


def test_a_probe_is_offered_where_it_would_foretell_what_is_not_known(run: Run, tmp_path: Path) -> None:
    rows = "".join(f"{'fine' if n % 2 else 'awful'} day {n},{'yes' if n % 2 else 'no'}\n" for n in range(400))
    Path("own.csv").write_text("text,label\n" + rows)
    Path("own.yaml").write_text("tasks: {own: {data: own.csv, text: text, label: label}}\n")
    model = saved_bert(tmp_path / "bert")
    words = ("recommend", "--model", model, "--set", "adapter.a_out=2", "--set", "adapter.a_in=2", "--space", "mini")
    short = ("--set", "examples.max_length=30", "--set", "schedule.epochs=9", "--set", "examples.train=256")
    offered = run(*words, *short, "--tasks", "own.yaml", program=main)[1]
    assert re.search(r"^  probe   krona-tune recommend .* --probe trains a third of it", offered, re.M)
    assert "  probe   " not in run(*words, *short, "--tasks", "cola", program=main)[1], "its data are synthetic"
    warned = run(*words, *short, "--tasks", "cola", "--probe", "--set", "examples.max_length=4", program=main)[2]
    assert "warning: " in warned, "of what is cut"
    probed = run(*words, *short, "--tasks", "own.yaml", "--probe", program=main)[1]
    assert "  probe   " not in probed
    assert re.search(r"^  own     after 33% of its training, .*; at its end .*, in most cases ", probed, re.M)


def test_a_probe_with_the_form_that_holds_no_score_is_refused_and_its_json_holds_it(run: Run, tmp_path: Path) -> None:
    model = saved_bert(tmp_path / "bert")
    words = ("recommend", "--probe", "--space", "mini", "--tasks", "cola", "--model", model)
    code, _, err = run(*words, "--format", "yaml", program=main)
    assert (code, "holds no score" in err) == (2, True)
    small = [f"--set={key}" for key in ("adapter.a_out=2", "adapter.a_in=2", "examples.max_length=40")]
    found = json.loads(run(*words, *small, "--format=json", program=main)[1])
    assert found["tasks"]["cola"]["probe"].keys() == {"constant", "examples", "seconds", "share", "score", "error"}
    too_fast = ("--set", "training.learning_rate=1e30", "--set", "training.warmup=0")
    code, out, _ = run(*words, *small, *too_fast, program=main)
    assert code == 1
    assert "score not known: its training failed: Diverged" in " ".join(out.split())


def test_the_printed_commands_keep_words_that_look_like_its_own(run: Run, model: str) -> None:
    out = run(*WORDS, "--model", model, "--storage", "my --probe dir", "--format", "text", program=main)[1]
    assert "--storage 'my --probe dir' --format yaml > recommended.yaml" in " ".join(out.split())


def test_the_command_that_trains_a_recommendation_keeps_its_storage(run: Run, model: str) -> None:
    out = run(*WORDS, "--model", model, "--storage", "elsewhere", program=main)[1]
    assert "run --space recommended.yaml --storage" in " ".join(out.split())
    assert not list(Path.cwd().iterdir())


def test_a_learned_point_beside_an_earlier_study_is_the_centre_and_said_to_be_untaught(run: Run, model: str) -> None:
    code, out, _ = run(*WORDS, "--model", model, "--warm-start", "recorded-curves", program=main)
    assert code == 0
    assert "(the centre of the space, not taught)" in out
    assert "score not known: not taught: no recorded curve is of this configuration" in out


def test_a_dry_run_says_what_to_expect_without_a_search(run: Run, model: str) -> None:
    code, out, _ = run("--dry-run", "--space", "mini", "--tasks", "rte", "--model", model)
    assert code == 0
    assert "Without any search (krona-tune recommend tells how to train it):\n  use     krona, " in out
    assert "  rte     score not known: " in out


def test_what_is_wrong_is_refused_as_by_run(run: Run, model: str) -> None:
    code, out, err = run(*WORDS, "--model", model, "--set", "adapter.a_out=7", program=main)
    assert (code, out) == (2, "")
    assert "a_out 7 does not divide 384" in err


def test_the_time_of_long_texts_is_that_of_a_dry_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = estimate.Speed(maps=1e9, attention=1e9, layer_seconds=1e-3, spread=2.0, how="by nothing")
    monkeypatch.setattr(needs, "speed_of", lambda *_: speed)
    rows = "".join(f"{'the cat sat on the mat ' * 40}{n},{'yes' if n % 2 else 'no'}\n" for n in range(120))
    Path("long.csv").write_text("body,answer\n" + rows)
    Path("long.yaml").write_text("tasks: {own: {data: long.csv, text: body, label: answer}}\n")
    model = saved_bert(Path("bert"))
    words = ("--tasks", "long.yaml", "--space", "mini", "--model", model, "--set", "examples.max_length=30")
    found = json.loads(run("recommend", *words, "--format", "json", program=main)[1])
    Path("it.yaml").write_text(run("recommend", *words, "--format", "yaml", program=main)[1])
    planned = run("--dry-run", "--space", "it.yaml")[1]
    [least] = re.findall(r"time +(.+?) to ", planned)
    assert format_duration(found["seconds"][0]) == least
