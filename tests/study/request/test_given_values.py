"""Tests of the values that a person gives beside a file."""

from pathlib import Path

import pytest

from krona_tune.refusal import Refusal
from krona_tune.study.request.domain import Fixed, Range
from krona_tune.study.request.given_values import read_settings
from tests.study.request.written_specs import load_changed, written


def test_settings_override_the_file_and_flags_override_settings(tmp_path: Path) -> None:
    settings = ["adapter.scale=1e-4", "training.learning_rate={low: 1, high: 3}", "search.trials=9", "seed=5"]
    spec = load_changed(written(tmp_path), settings, {"search.trials": 3, "tasks": ("stsb",)})
    assert spec.adapter["scale"] == Fixed(1e-4)
    assert spec.training["learning_rate"] == Range(1, 3)
    assert (spec.search.trials, spec.seed, spec.tasks) == (3, 5, ("stsb",))


def test_a_setting_makes_the_section_that_the_file_lacks(tmp_path: Path) -> None:
    path = written(tmp_path, "model: m\n")
    assert load_changed(path, ["adapter.roles=key+value"]).adapter["roles"] == Fixed("key+value")


def test_one_tasks_value_can_be_set_alone(tmp_path: Path) -> None:
    spec = load_changed(written(tmp_path), ["schedule.epochs.cola=4"])
    assert spec.schedule.epochs == {"default": 20, "sst2": 3, "cola": 4}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("adapter.scale", "--set: 'adapter.scale' has no '='; write --set adapter.scale=2"),
        ("training.learning_rate=", "--set training.learning_rate: has no value; write one after '=', or null"),
        ("adapter.scale= ", "--set adapter.scale: has no value"),
        ("tasks=[]", "--set tasks: names no task; name one, or leave tasks out for all of GLUE"),
        ("tasks={}", "--set tasks: names no task"),
        ("trials=3", "--set trials: unknown key 'trials'; write search.trials"),
        ("learning_rate=0.1", "--set learning_rate: unknown key 'learning_rate'; write training.learning_rate"),
        ("name=mine", "--set name: a study is named where it is begun; write --name"),
        ("adapter.scael=2", "--set adapter.scael: unknown key 'scael', did you mean 'scale'?"),
        ("adapter.scale={", "--set adapter.scale, line 1, column 2: not YAML"),
        ("seed.deep=1", "--set seed.deep: 'seed' holds 11, not keys; name an existing path"),
        ("serch.trials=3", "--set serch.trials: unknown key 'serch', did you mean 'search'?"),
        ("examples.trian.cola=3", "--set examples.trian.cola: unknown key 'trian', did you mean 'train'?"),
        ("=3", "unknown key ''"),
        ("finalists=null", "--set finalists: null is refused; write keys and values, such as {top: 0} for none"),
        ("search=5", "--set search: 5 is refused; write keys and values, or leave it out"),
        ("resources.nice=20", "--set resources.nice: 20 is refused; write 19 or less"),
        ("resources.nice=-1", "--set resources.nice: -1 is refused; write 0 or more"),
        ("resources.nice=0.5", "--set resources.nice: 0.5 is refused; write a whole number"),
        ("adapter={scale: 2, scale: 3}", "--set adapter, line 1, column 12: the key 'scale' is written twice"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        load_changed(written(tmp_path), [setting])
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=NINES", "--set seed, line 1, column 1: '9999"),
        ("seed=NINES", "' can't be read as int; write a shorter number, or a word in quotes"),
        ("seed=0xNINES", "seed: a value too large to be shown is beyond 2^63; write a smaller number"),
        ("adapter.scale=NINES.0", "--set adapter.scale: inf is refused; write a finite number"),
        ("search.max_params=NINES%", "99%' is refused; write a number of parameters such as 200000, or a share"),
        ("search.time_budget=NINESh", "99h' is refused; write a time such as 90s, 20min, 1h30m or 2d"),
        ("adapter.layers=first NINES", "--set adapter.layers: can't be read: 'first 999"),
        ("adapter.layers=0,NINES", "--set adapter.layers: can't be read: '0,999"),
        ("model=xNINES", "99' is refused; write a name of at most 255 bytes, or a path of at most 3000"),
        ("data=WORDS", "is refused; write a name of at most"),
        ("search.warm_start=PATH", "a.a.a.' is refused; write a name of at most"),
        ("PATHb=1", "unknown key 'a'; known: adapter, backbone, data"),
        ("schedule.epochs.PATHb=1", "is refused; write a number"),
        ("WORDS=1", "unknown key 'x x"),
    ],
)
def test_what_is_thousands_of_characters_long_is_refused_in_few(tmp_path: Path, setting: str, message: str) -> None:
    for word, long in (("NINES", "9" * 5000), ("PATH", "a." * 5000), ("WORDS", "x " * 2500)):
        setting = setting.replace(word, long)
    with pytest.raises(Refusal) as refused:
        load_changed(written(tmp_path), [setting])
    assert message in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_a_number_of_more_trials_is_read_as_its_flag_reads_it() -> None:
    assert [each.value for each in read_settings(["search.trials=+20", "search.trials=20"])] == ["+20", 20]
