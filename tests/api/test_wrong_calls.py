"""Tests that each wrong call from Python is refused with the argument, its value and a fix, before anything starts."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn, tensor

import krona_tune
from krona_tune.api import study as study_module
from krona_tune.refusal import Refusal
from krona_tune.refused_calls import KEYWORDS
from krona_tune.study.request.plain_yaml import plain_values
from krona_tune.study.settings import SETTINGS, flag_of
from tests.models import build
from tests.search.models import saved_bert

FINISHED = Path(__file__).parents[1] / "old_studies" / "format_1" / "stored" / "finished"
ADAPTER = FINISHED / "adapters" / "cola"
SPACE = {"adapter": {"a_out": 4, "a_in": 6}, "examples": {"max_length": 16}}
FRAME = pd.DataFrame({"body": ["fine", "poor"] * 20, "verdict": ["good", "bad"] * 20})
REVIEWS = {"text": "body", "label": "verdict"}
Call = Callable[[], Any]


@pytest.fixture(scope="module", autouse=True)
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a folder with a backbone the working folder."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("here"))
    saved_bert(Path("bert"))
    yield "bert"
    os.chdir(before)


@cache
def network() -> nn.Module:
    return build("bert")[1]


def study(**words: Any) -> krona_tune.Study:
    given = {"model": "bert", "tasks": "cola", "data": "mini", "space": SPACE, "name": "one"}
    return krona_tune.Study(**{**given, **words})


def planned(**words: Any) -> Call:
    return lambda: study(**words).plan()


def of_data(data: Any, name: Any = "reviews") -> Call:
    return planned(tasks={name: {"data": data, **REVIEWS}})


def run(**words: Any) -> Call:
    return lambda: study().run(**words)


def finished(method: str, *args: Any, **words: Any) -> Call:
    return lambda: getattr(krona_tune.open_study(FINISHED), method)(*args, **words)


def called(name: str, *args: Any, **words: Any) -> Call:
    return lambda: getattr(krona_tune, name)(*args, **words)


def chosen(**words: Any) -> Call:
    return lambda: krona_tune.optuna_space(None, network(), **words)


WRONG: dict[str, Call] = {
    # what is asked for
    "tasks[0]: 1 is of the type int; give a text": planned(tasks=[1, 2]),
    "tasks: 5 is of the type int; give a text, a path, a list, a dict or None": planned(tasks=5),
    "tasks: no task in {}; known: glue, cola": planned(tasks={}),
    "tasks: no task in ''; known: glue, cola": planned(tasks=[]),
    "tasks: {'cola'} is of the type set; give a text, a path, a list": planned(tasks={"cola"}),
    "tasks: reviews: is of the type DataFrame; give a text, a dict or None": planned(tasks={"reviews": FRAME}),
    "tasks: key: 5 is of the type int; give a text": of_data(FRAME, name=5),
    "'../../up' is refused; write a name of letters": of_data(FRAME, name="../../up"),
    "tasks: reviews: data: is of the type list; give a pandas frame": of_data([1, 2]),
    "give a pandas frame, as pandas.DataFrame(ROWS) makes one of dicts": of_data(FRAME.to_dict("records")),
    "data: verdict: holds values of the type pandas.period; hold words or numbers": of_data(
        FRAME.assign(verdict=pd.PeriodIndex(["2020", "2021"] * 20, freq="Y"))
    ),
    "metric: is of the type function; name it, as in MODULE:FUNCTION": planned(
        tasks={"reviews": {"data": FRAME, **REVIEWS, "metric": [lambda labels, answers: 1]}}
    ),
    "tasks: reviews: data: holds no part; give a pandas frame": of_data({}),
    "data: unknown part '../up'; known: test, train, validation": of_data({"../up": FRAME}),
    "data: unknown part 'extra', did you mean 'train'": of_data({"train": FRAME, "extra": FRAME}),
    "model: 5 is of the type int; give a hub name, a folder or a model of transformers": planned(model=5),
    "space: 5 is of the type int; give a text, a path, a dict or None": planned(space=5),
    "space: its value is empty; give one, or leave it out": planned(space=""),
    "space: adapter: key: 5 is of the type int": planned(space={"adapter": {5: 2}}),
    "space: adapter: scale: is of the type object; give words": planned(space={"adapter": {"scale": object()}}),
    "settings: key: 5 is of the type int; give a text": planned(settings={5: 2}),
    "settings: name: a study is named where it is begun; write name=": planned(settings={"name": "two"}),
    "settings: [1] is of the type list; give a dict or None": planned(settings=[1]),
    "settings: adapter.scale: is of the type DataFrame": planned(settings={"adapter.scale": FRAME}),
    "schedule.epochs: true is refused; write a number": planned(settings={"schedule.epochs": True}),
    "examples.train: default: true is refused": planned(settings={"examples.train": {"default": True}}),
    "search.baseline_learning_rates: true is": planned(settings={"search.baseline_learning_rates": [True]}),
    "name: 5 is of the type int; give a text or None": planned(name=5),
    "name: 'a\\x00b' holds the control character": planned(name="a\0b"),
    # where it goes
    "storage: 5 is of the type int; give a text or a path": planned(storage=5),
    "address: 'ray://x:1': a study can't be driven through Ray Client": planned(address="ray://x:1"),
    "address=auto, or through ray job submit": planned(address="ray://x:2"),
    "tracking_uri: unknown scheme 'foo'; known: databricks": planned(tracking_uri="foo://x"),
    "tracking_uri: 5 is of the type int": planned(tracking_uri=5),
    "notify: 5 is of the type int; give a text, a list or None": planned(notify=5),
    "notify: is of the type dict; give a text, a list or None": planned(notify={"to": "slack://PASSWORD"}),
    "tracking_uri: is of the type list; give a text or None": planned(tracking_uri=["http://me:PASSWORD@host"]),
    "notify[0]: 5 is of the type int; give a text": planned(notify=[5]),
    "wandb: ['x'] is of the type list; give a text or None": planned(wandb=["x"]),
    # how much
    "trials: true is not a number of trials; give a whole number from 1": planned(trials=True),
    "trials: [3] is not a number of trials": planned(trials=[3]),
    "seed: true is refused; write a number": planned(seed=True),
    "time_budget: 'soon' is refused; write a time such as": planned(time_budget="soon"),
    "shared: 'x' is refused; write true or false": planned(shared="x"),
    "warm_start: 5 is refused; write a list": planned(warm_start=5),
    "cpus_per_trial: 9999 asked, the largest node has": planned(cpus_per_trial=9999),
    "max_concurrent: 'x' is refused; write a whole number": planned(max_concurrent="x"),
    "price: true is refused; write a number": planned(price=True),
    "Study: 'learning_rate' is a key of the YAML and no keyword; write settings={'training.learning_rate': VALUE}": (
        planned(learning_rate=0.01)
    ),
    "Study: 'adapter' is a key of the YAML and no keyword; write settings={'adapter': VALUE}": planned(adapter={}),
    "Study: unknown keyword 'trils', did you mean 'trials'": planned(trils=3),
    "Study: unknown keyword 'task', did you mean 'tasks'": planned(task="cola"),
    "Study: unknown keyword 'modle', did you mean 'model'": planned(modle="m"),
    "Study: too many positional arguments; it takes tasks": lambda: krona_tune.Study("cola"),  # type: ignore[misc]
    "space: the path names a space already": lambda: krona_tune.Study.from_yaml("minilm", space="mini"),
    "path: 5 is of the type int; give a text or a path": lambda: krona_tune.Study.from_yaml(5),  # type: ignore[arg-type]
    "nowhere.yaml: can't be read: No such file or directory; give a YAML file": planned(space="nowhere.yaml"),
    # plan, run and train
    "plan: unknown keyword 'dry'; known:": lambda: study().plan(dry=True),  # type: ignore[call-arg]
    "trials: True is of the type bool; give a whole number, a text or None": run(trials=True),
    "trials: 2.5 is of the type float": run(trials=2.5),
    "trials: '+3' is not a number of trials": run(trials="+3"),
    "time_budget: [1] is of the type list; give a text, a number or None": run(time_budget=[1]),
    "time_budget: 0 is refused; write a number above 0": run(time_budget=0),
    "wait: 'no' is of the type str; give True or False": run(wait="no"),
    "train: the study 'one' has not begun; run it first": lambda: study().train(),
    "seeds: '2' is of the type str; give a whole number": finished("train", seeds="2"),
    "all_data: 1 is of the type int; give True or False": finished("train", all_data=1),
    "task: 5 is of the type int; give a text or None": finished("train", task=5),
    "seconds: -1 is no time to wait; give a number of seconds above 0": finished("stop", -1),
    "seconds: '5' is of the type str; give a number": finished("stop", "5"),
    # what was recorded
    "what: unknown word 'stopp', did you mean 'stop'": finished("order", "stopp"),
    "value: 20 is of the type int; give a text": finished("order", "trials", value=20),
    "settings: 'a=1' is of the type str; give a dict or None": finished("order", "clone_trial", "x", settings="a=1"),
    "task: ['cola'] is of the type list; give a text": finished("best", ["cola"]),
    "charts: missing a required argument: 'task'; it takes task": finished("charts"),
    "report: too many positional arguments; it takes nothing": finished("report", 5),
    "examples: 'abc' is of the type str; give a list": finished("predict", "cola", "abc"),
    "examples: array('a', dtype='<U1') is of the type ndarray; give a list": finished("predict", "cola", np.array("a")),
    "examples[0]: tensor(1) is of the type Tensor; give a text": finished("predict", "cola", tensor([1])),
    "examples[1]: it is no text in UTF-8": finished("predict", "cola", ["fine", "half \ud800"]),
    "tokenizer: it goes with a model in memory; leave it out": planned(tokenizer=5),
    "trials: true is not a number of trials; give a whole number": planned(trials=np.bool_(True)),
    "inputs: space.yaml can't be kept there (": planned(storage="/proc/nowhere"),
    "examples[0]: None is of the type NoneType; give a text or a list": finished("predict", "cola", [None]),
    "examples[1]: 5 is of the type int": finished("predict", "cola", ["fine", 5]),
    "examples[0][1]: nan is of the type float; give a text": finished("predict", "cola", [["a", float("nan")]]),
    # the functions
    "study: 5 is of the type int; give a text or a path": called("open_study", 5),
    "study: its value is empty": called("open_study", ""),
    "study: 'a\\x00b' holds the control character": called("open_study", "a\0b"),
    "or name its folder with storage=": called("open_study", "nowhere"),
    "folder: 5 is of the type int; give a text or a path": called("predict", 5, ["a"]),
    "examples: is of the type DataFrame; give a list, such as frame[NAMES].values.tolist()": called(
        "predict", ADAPTER, FRAME
    ),
    "examples: {'a': 1} is of the type dict; give a list": called("predict", ADAPTER, {"a": 1}),
    "model: 5 is of the type int; give a text or None": called("predict", ADAPTER, ["a"], model=5),
    "model: 'bert' is of the type str; give a Module of torch": called("load", "bert", ADAPTER),
    "model: a Linear has no config; give a model of transformers": called("load", nn.Linear(2, 3), ADAPTER),
    "folder: None is of the type NoneType": lambda: krona_tune.load(network(), None),  # type: ignore[arg-type]
    "check_backbone: 'no' is of the type str": lambda: krona_tune.load(network(), ADAPTER, check_backbone="no"),  # type: ignore[arg-type]
    "load: missing a required argument: 'folder'; it takes model, folder": lambda: krona_tune.load(network()),  # type: ignore[call-arg]
    "curves: too many positional arguments; it takes nothing": called("curves", 5),
    "curves: unknown keyword 'task'": called("curves", task="sst2"),
    "model: 5 is of the type int; give a Module of torch": called("optuna_space", None, 5),
    "trial: is of the type int; give a trial of Optuna, or None": lambda: krona_tune.optuna_space(5, network()),
    "max_params: True is of the type bool; give a whole number or None": chosen(max_params=True),
    "methods: 'krona' is of the type str; give a list": chosen(methods="krona"),
    "methods: unknown method ''; known: krona, lokr, lora": chosen(methods=[]),
    "roles: unknown role 'qery', did you mean 'query'": chosen(roles="qery"),
    "layers: can't be read: 'nope'; write all": chosen(layers="nope"),
}
"""Each wrong call by what its refusal says."""


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_call_is_refused_with_the_argument_its_value_and_a_fix(
    message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "run_and_report", lambda *asked, **more: pytest.fail("it was run"))
    with pytest.raises(Refusal) as refused:
        WRONG[message]()
    assert message in str(refused.value)
    assert "--" not in str(refused.value)
    assert "PASSWORD" not in str(refused.value)


def test_no_wrong_call_leaves_a_file_outside_its_study() -> None:
    assert {path.name for path in Path().iterdir()} <= {"bert", "studies"}
    assert {path.name for path in Path("studies").glob("*")} <= {"one"}


@pytest.mark.parametrize("seeds", [0, -1, 101])
def test_a_full_training_has_at_least_one_seed_and_not_too_many(seeds: int) -> None:
    from krona_tune.search.full_training import FullTraining

    with pytest.raises(Refusal, match=f"--seeds: {seeds} is no number of seeds; write 1 to 100"):
        FullTraining(of=None, seeds=seeds, everything=True)  # type: ignore[arg-type]


def test_numbers_and_lists_of_numpy_and_pandas_are_taken() -> None:
    assert plain_values({"scale": (np.float64(2.5), np.int64(3)), "data": Path("x.csv")}, "x") == {
        "scale": [2.5, 3],
        "data": "x.csv",
    }
    plan = study(space={**SPACE, "adapter": {"a_out": np.int64(4), "a_in": 6}}, trials=np.int64(3)).plan()
    assert plan.plan.trials == 3
    answers = krona_tune.open_study(FINISHED).tasks
    assert answers == ("cola", "stsb")
    texts = FRAME.body.head(2)
    with pytest.raises(Refusal, match=r"examples\[1\]: 5 is of the type int"):
        krona_tune.predict(ADAPTER, pd.Series([texts[0], 5]))  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="is no folder"):  # its backbone is gone, the examples are right
        krona_tune.predict(ADAPTER, texts, model="nowhere/bert")  # type: ignore[arg-type]


def test_flags_that_python_has_as_keywords_are_known() -> None:
    assert {flag_of(name): name for name in SETTINGS}.items() <= KEYWORDS.items()
