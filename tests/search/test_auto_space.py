"""Tests the space that is made for a request: lengths, layers and sizes follow from texts, model and time."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import pytest

import krona_tune
from krona_tune.backbones.introspect import introspect
from krona_tune.record.recorded_curves import LEARNED
from krona_tune.refusal import Refusal
from krona_tune.search.planning.model_domains import FIRST_GUESS, LEARNING_RATES, placed
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.search.startup import auto_space
from krona_tune.search.startup.auto_space import (
    AUTO,
    MOST_TRIALS,
    DerivedSpace,
    Size,
    as_yaml,
    derive_space,
    sizes_of_a_study,
    values_of_a_size,
)
from krona_tune.search.startup.auto_space import (
    LEARNED as ENOUGH,
)
from krona_tune.search.startup.estimate import Speed
from krona_tune.search.startup.needs import find_needs, means_of
from krona_tune.search.startup.slots import Slots
from krona_tune.search.startup.task_data import preview_data
from krona_tune.study.formatting import format_duration
from krona_tune.study.request.given_values import GivenValue
from krona_tune.study.request.loader import build_spec, spec_with
from krona_tune.study.request.plain_yaml import read_yaml
from krona_tune.study.request.schedule import ScheduleSpec
from tests.backbones.families import tiny
from tests.language_models import saved_decoder_of_words, saved_language_model
from tests.models import ENCODER
from tests.search.models import saved_bert

SLOW = Speed(maps=2e7, attention=2e7, layer_seconds=1e-3, spread=2.0, how="by nothing")
SLOTS = Slots(cpus=1, gpus=0, count=2)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Writes 400 texts, of which 1 in 25 has 30 words and the others up to 11."""
    rows = [
        f"{' '.join(['the'] * (30 if n % 25 == 0 else 1 + n % 11))} {n},{'yes' if n % 2 else 'no'}\n"
        for n in range(400)
    ]
    path = tmp_path / "texts.csv"
    path.write_text("body,answer\n" + "".join(rows))
    return path


def derived(model: Path, texts: Path, **given: Any) -> DerivedSpace:
    task = {"data": str(texts), "text": "body", "label": "answer"}
    values = {"model": str(model), "tasks": {"own": task}, **given}
    asked = [GivenValue(key, value, key) for key, value in values.items()]
    complete = partial(spec_with, place=AUTO, folder=Path.cwd(), given=asked)
    return derive_space(complete, {"model": "m", "data": "mini"}, SLOTS)


def test_batches_that_do_not_fit_into_memory_are_computed_in_parts(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def a_hundred_in_all(plan: Plan, length: int, slots: Slots) -> int:
        return 100 // int(max(plan.space.knobs["krona"]["accumulation"].ends()))

    monkeypatch.setattr(auto_space, "worker_bytes", a_hundred_in_all)
    model = saved_bert(tmp_path / "bert")
    for bytes_there, parts in ((200.0, None), (60.0, 4), (1.0, 32), (inf, None)):
        monkeypatch.setattr(f"{__name__}.SLOTS", replace(SLOTS, node_bytes=bytes_there))
        found = derived(model, texts)
        assert found.values["training"].get("accumulation") == parts
        assert ("training.accumulation" in found.reasons) == bool(parts)
    monkeypatch.setattr(f"{__name__}.SLOTS", replace(SLOTS, node_bytes=1.0))
    assert "accumulation" not in derived(model, texts, training={"accumulation": 2}).reasons
    small = derived(model, texts, **{"training.batch_size": 4})
    assert small.values["training"]["accumulation"] == 4
    for section in ({"learning_rate": 1e-3}, {"batch_size": 4}):  # which stands in place of all that was made
        assert "training.accumulation" not in derived(model, texts, training=section).reasons


def test_the_miniature_is_sized_for_the_rows_that_it_will_make(tmp_path: Path) -> None:
    asked = [GivenValue(key, value, key) for key, value in {"tasks": ("cola",), "examples.train": 900}.items()]
    complete = partial(spec_with, place=AUTO, folder=Path.cwd(), given=asked)
    made = derive_space(complete, {"model": str(saved_bert(tmp_path / "bert")), "data": "mini"}, SLOTS)
    assert "cola has" not in made.reasons["examples.validation"]
    assert made.reasons["examples.train"].startswith("900 of 900 cola: ")
    plan = make_plan(complete({"model": str(tmp_path / "bert"), "data": "mini", **made.values}).settled(), AUTO)
    data = plan.data_of("cola")
    assert data.validation.num_rows == made.values["examples"]["validation"]
    assert data.train.num_rows == 900


def test_batches_fit_into_the_memory_of_the_fullest_node(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_space, "worker_bytes", lambda plan, length, slots: 100)
    model = saved_bert(tmp_path / "bert")

    def parts(**nodes: Any) -> Any:
        monkeypatch.setattr(f"{__name__}.SLOTS", Slots(cpus=1, gpus=0, **nodes))
        return derived(model, texts).values["training"].get("accumulation")

    assert parts(count=200, on_a_node=2, node_bytes=200.0) is None
    assert parts(count=200, on_a_node=2, node_bytes=199.0) == 32
    assert parts(count=200, on_a_node=1, node_bytes=100.0) is None


def test_it_cuts_one_text_in_twenty_at_most(tmp_path: Path, texts: Path) -> None:
    found = derived(saved_bert(tmp_path / "bert"), texts)
    assert found.values["examples"]["max_length"] == 16  # 11 words, a number, and two special tokens, in eights
    assert found.reasons["examples.max_length"].startswith("95 % of 280 training texts have at most 14 tokens")


def test_it_is_a_whole_space_that_plans_as_it_is_written(tmp_path: Path, texts: Path) -> None:
    found = derived(saved_bert(tmp_path / "bert"), texts)
    written = read_yaml(as_yaml(found.values, found.reasons), "x.yaml")
    assert written == found.values
    task = {"own": {"data": str(texts), "text": "body", "label": "answer"}}
    spec = build_spec({**found.whole, "model": str(tmp_path / "bert"), "tasks": task}, "x.yaml")
    assert make_plan(spec, "x.yaml").spec.reasons == found.reasons
    assert "# examples.max_length: 95 %" in as_yaml(found.values, found.reasons)
    assert spec.search.time_budget is None


def test_the_model_s_positions_are_the_most(tmp_path: Path, texts: Path) -> None:
    texts.write_text("body,answer\n" + "".join(f"{'the ' * 3_000}{n},{n % 2}\n" for n in range(60)))
    found = derived(saved_bert(tmp_path / "bert"), texts)
    assert found.values["examples"]["max_length"] == ENCODER["max_position_embeddings"]
    assert found.reasons["examples.max_length"] == (
        "5 % or more of 42 training texts have 40 tokens or more, and 40 are the most that are read"
    )


@pytest.mark.parametrize(("positions", "new", "most"), [(40, 7, 33), (9_000, 4_096, 4_096), (40, 36, 4)])
def test_a_decoder_that_writes_has_room_for_its_answer(
    positions: int, new: int, most: int, tmp_path: Path, texts: Path
) -> None:
    model = saved_language_model(tmp_path / "llama", max_position_embeddings=positions)
    texts.write_text("body,answer\n" + "".join(f"{'the ' * 1_200}{n},{n % 2}\n" for n in range(60)))
    task = {"own": {"data": str(texts), "text": "body", "target": "answer", "max_new_tokens": new}}
    assert derived(model, texts, tasks=task).values["examples"]["max_length"] == most


def test_a_decoder_that_answers_in_words_has_room_for_the_longest(tmp_path: Path, texts: Path) -> None:
    texts.write_text("body,answer\n" + "".join(f"{'the ' * 20}{n},{'never' if n % 2 else 'no'}\n" for n in range(60)))
    found = derived(saved_decoder_of_words(tmp_path / "codegen", 32), texts)
    assert found.values["examples"]["max_length"] == 32 - len(" never") - 1  # and the end of the answer
    said = r"tasks.own: its longest label's 7 tokens of 10 leave 3 to read; give it shorter words, or take another mo"
    with pytest.raises(Refusal, match=said):
        derived(saved_decoder_of_words(tmp_path / "short", 10), texts)


def test_an_answer_that_leaves_nothing_to_read_is_refused(tmp_path: Path, texts: Path) -> None:
    model = saved_language_model(tmp_path / "llama", max_position_embeddings=40)
    task = {"own": {"data": str(texts), "text": "body", "target": "answer", "max_new_tokens": 37}}
    with pytest.raises(Refusal, match=r"own.max_new_tokens: 37 tokens of 40 leave 3 to read; write 36 at most"):
        derived(model, texts, tasks=task)


@pytest.mark.parametrize(
    ("depth", "layers"),
    [(1, ["all"]), (2, ["all", "last 1"]), (3, ["all", "last 2", "last 1"]), (12, ["all", "last 6", "last 4"])],
)
def test_layers_are_shares_of_the_depth(depth: int, layers: list[str]) -> None:
    config = {**tiny("bert"), "num_hidden_layers": depth}
    assert placed(introspect(config, "here"))["adapter"]["layers"] == layers


def test_of_stacks_of_uneven_depth_as_many_layers_are_offered_as_the_lesser_has(tmp_path: Path, texts: Path) -> None:
    for encoder, decoder, said in (
        (6, 2, "2 decoder layers, and as many of 6 encoder"),
        (2, 2, "2 encoder layers and 2"),
    ):
        folder = tmp_path / f"{encoder}"
        found = derived(saved_language_model(folder, "t5", num_layers=encoder, num_decoder_layers=decoder), texts)
        assert found.values["adapter"]["layers"] == ["all", "last 1"]
        assert f"third where they differ, of {said}" in found.reasons["adapter.layers"]


@pytest.mark.parametrize(
    ("model_type", "roles"),
    [
        ("bert", ["query+value", "query+key+value+output"]),
        (
            "t5",
            [
                "query+cross_query+value+cross_value",
                "query+cross_query+key+cross_key+value+cross_value+output+cross_output",
            ],
        ),
        ("convbert", ["value", "key+value+output"]),
        ("fnet", ["feed_forward_in+feed_forward_out"]),
    ],
)
def test_roles_are_those_of_the_model(model_type: str, roles: list[str]) -> None:
    assert [set(each.split("+")) for each in placed(introspect(tiny(model_type), "here"))["adapter"]["roles"]] == [
        set(each.split("+")) for each in roles
    ]


def test_maps_that_a_person_names_leave_nothing_to_place(tmp_path: Path, texts: Path) -> None:
    found = derived(saved_bert(tmp_path / "bert"), texts, **{"backbone.target_modules": ["query"]})
    assert not found.values["adapter"].keys() & {"roles", "layers"}
    assert "adapter.layers" not in found.reasons


def test_sizes_of_a_divide_the_maps_that_are_offered_or_given_and_no_other() -> None:
    geometry = introspect({**tiny("bert"), "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 35}, "x")
    offered, given = placed(geometry)["adapter"], placed(geometry, ["value", "feed_forward_in"])["adapter"]
    assert [offered["a_out"], offered["a_in"]] == [
        {"divisors": {"low": 1, "high": 24}},
        {"divisors": {"low": 1, "high": 6}},
    ]
    assert given["a_out"] == {"divisors": {"low": 1}}, "48 and 35 have no divisor but 1"
    assert given["a_in"] == offered["a_in"]
    assert (given["roles"], given["layers"]) == (["value", "feed_forward_in"], offered["layers"])


def test_reasons_are_about_what_is_offered(tmp_path: Path, texts: Path) -> None:
    shallow = {**ENCODER, "num_hidden_layers": 1, "intermediate_size": 35}
    model = saved_bert(tmp_path / "bert", shallow)
    found = derived(model, texts)
    assert found.values["adapter"]["layers"] == ["all"]
    assert "adapter.layers" not in found.reasons
    assert found.reasons["adapter.a_out"] == "divisors of 24 and 24, common to all adapted maps"
    given = derived(model, texts, **{"adapter.roles": "feed_forward_in+value"})
    assert given.reasons["adapter.a_out"] == "divisors of 1 and 24, common to all adapted maps"


def test_learning_rates_hold_the_best_recorded_ones() -> None:
    frame = krona_tune.curves()
    ended = frame[(frame.kind == "search") & (frame.epochs == 9) & frame.task.isin(LEARNED)]
    best = ended[ended.groupby("task").score.rank(ascending=False) <= 13].learning_rate
    low, high = best.quantile(0.05), best.quantile(0.95)
    assert LEARNING_RATES[0] <= low
    assert high <= LEARNING_RATES[1] < 2 * high
    assert pytest.approx(best.median(), rel=0.05) == FIRST_GUESS


@pytest.mark.parametrize("rows", [70, 512, 3_000, 80_000])
def test_sizes_grow_from_few_trials_to_many_over_all_data(rows: int) -> None:
    sizes = list(sizes_of_a_study(rows))
    assert all(a.trials <= b.trials and a.seen <= b.seen and a != b for a, b in pairwise(sizes))
    assert sizes[-1].trials == MOST_TRIALS
    last = values_of_a_size(sizes[-1], {"own": rows})
    assert "train" not in last["examples"]
    assert last["schedule"]["epochs"] == (30 if rows < 512 else 9)
    assert [each.trials for each in sizes if each.seen < min(ENOUGH, sizes[-1].seen)][-1] == sizes[0].trials


@pytest.mark.parametrize(
    ("seen", "epochs", "train"), [(1_024, 2, 512), (4_608, 4, 1_152), (40_000, 4, 10_000), (180_000, 6, None)]
)
def test_a_size_is_shared_out_among_examples_and_epochs(seen: int, epochs: int, train: int | None) -> None:
    found = values_of_a_size(Size(trials=5, seen=seen), {"own": 30_000})
    assert (found["schedule"]["epochs"], found["examples"].get("train"), found["search"]["trials"]) == (
        epochs,
        train,
        5,
    )


def test_tasks_of_other_sizes_have_epochs_of_their_own() -> None:
    found = values_of_a_size(Size(trials=5, seen=4_608), {"large": 30_000, "small": 200})
    assert found["schedule"]["epochs"] == {"default": 4, "small": 23}


def test_examples_that_a_person_asks_for_are_those_that_epochs_and_validation_are_sized_for() -> None:
    size = Size(trials=5, seen=4_608)
    free, asked = (values_of_a_size(size, {"own": 20_000}, asked=each) for each in (False, True))
    assert (free["schedule"]["epochs"], free["examples"]["train"], free["examples"]["validation"]) == (4, 1_152, 1_000)
    assert (asked["schedule"]["epochs"], "train" in asked["examples"]) == (1, False)
    assert asked["examples"]["validation"] == 1_000


def test_few_examples_that_a_person_asks_for_are_seen_as_often_as_those_of_a_small_file(
    tmp_path: Path, texts: Path
) -> None:
    model, few = saved_bert(tmp_path / "bert"), tmp_path / "few.csv"
    few.write_text("".join(texts.read_text().splitlines(keepends=True)[:101]))
    asked = derived(model, texts, **{"examples.train": 70}).values["schedule"]["epochs"]
    assert asked == derived(model, few).values["schedule"]["epochs"] > 9


def test_a_time_budget_sizes_the_study_and_what_a_person_gave_stays(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_space, "speed_for", lambda *_: SLOW)
    model = saved_bert(tmp_path / "bert")

    def asked(found: DerivedSpace) -> tuple[int, Any]:
        return found.values["search"]["trials"], found.values["schedule"]["epochs"]

    usual = asked(derived(model, texts))
    short, long = (asked(derived(model, texts, **{"search.time_budget": time})) for time in ("60s", "2d"))
    assert short < usual < long
    fixed = derived(model, texts, **{"schedule.epochs": 1, "schedule.grace_epochs": 1})
    assert asked(fixed)[0] > usual[0]
    least = derived(model, texts, **{"search.time_budget": 1})
    assert "the fewest, but longer than the time budget of 1 s" in least.reasons["search.trials"]


@pytest.mark.parametrize(
    ("limit", "most", "least_of", "words"),
    [("device_hours", 0.4, 1e-6, "device hours"), ("examples_budget", 40_000, 10, "examples")],
)
def test_another_limit_sizes_the_study_too(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: float, least_of: float, words: str
) -> None:
    monkeypatch.setattr(auto_space, "speed_for", lambda *_: SLOW)
    model = saved_bert(tmp_path / "bert")
    long = {"search.time_budget": "2d"}
    usual, limited = (derived(model, texts, **long, **given) for given in ({}, {f"search.{limit}": most}))
    sizes = [(each.values["search"]["trials"], each.values["schedule"]["epochs"]) for each in (usual, limited)]
    assert sizes[0] > sizes[1]
    assert limited.reasons["search.trials"].startswith(f"the most within the budget of {words}: about ")
    least = derived(model, texts, **long, **{f"search.{limit}": least_of})
    assert f"the fewest, but more than the budget of {words} (" in least.reasons["search.trials"]


def test_what_no_study_can_be_run_with_is_refused(tmp_path: Path, texts: Path) -> None:
    model: Mapping[str, Any] = {"model": str(saved_bert(tmp_path / "bert"))}
    with pytest.raises(Refusal, match="unknown task 'clola'"):
        derived(Path(model["model"]), texts, tasks=["clola"])


def test_its_time_is_that_of_the_whole_study(tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts taught trials, which nothing stops, and the finals of the default: what a dry run says below it too."""
    monkeypatch.setattr(auto_space, "speed_for", lambda *_: SLOW)
    texts.write_text("body,answer\n" + "".join(f"the the {n},{n % 2}\n" for n in range(400)))
    found = derived(saved_bert(tmp_path / "bert"), texts)
    task = {"own": {"data": str(texts), "text": "body", "label": "answer"}}
    spec = build_spec({**found.whole, "model": str(tmp_path / "bert"), "tasks": task}, "x.yaml").settled()
    plan = make_plan(spec, "x.yaml")
    read = {"own": means_of(preview_data(plan, ["own"], 1)["own"].tokens)}
    low, high = map(format_duration, find_needs(plan, SLOTS, SLOW, read).seconds)
    assert f"({low} to {high})" in found.reasons["search.trials"]


@pytest.mark.parametrize("epochs", [1, 3, 4, 7, 10, 12, 0.05])
def test_trials_are_judged_after_a_third_of_the_epochs_and_not_again_just_before_their_end(
    epochs: float, tmp_path: Path, texts: Path
) -> None:
    found = derived(saved_bert(tmp_path / "bert"), texts, **{"schedule.epochs": epochs})
    first, end = ScheduleSpec.model_validate({**found.values["schedule"], "epochs": epochs}).of("own", 280).rungs
    assert end / 3 <= first <= end / 3 * 1.01 + 2


def test_no_reason_is_given_for_what_has_no_part_in_the_study(tmp_path: Path, texts: Path) -> None:
    asked = {"adapter.method": "bitfit", "search.early_stopping": False}
    found = derived(saved_bert(tmp_path / "bert"), texts, **asked)
    assert not {"adapter.a_out", "schedule.grace_epochs"} & set(found.reasons)
    assert "training.learning_rate" in found.reasons


def test_few_validation_examples_are_not_said_to_be_as_many_as_are_trained_on(tmp_path: Path, texts: Path) -> None:
    found = derived(saved_bert(tmp_path / "bert"), texts)
    assert found.reasons["examples.validation"] == "as many as train the model, within 256 and 1,000; own has 60"
