"""Tests that corrections of roles reach the plan and the adapter, and that curves of another metric are refused."""

from pathlib import Path

import pytest
import torch

import krona_tune
from krona_tune.adapters.adapter_files import save_adapter
from krona_tune.adapters.inject import Adapters
from krona_tune.backbones.geometry import Role
from krona_tune.record.contributed_curves import write_curves
from krona_tune.refusal import Refusal
from krona_tune.search.planning.plan import Plan, make_plan
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.trial import AdapterConfig
from krona_tune.train.backbone import load_backbone
from tests.adapters.cards import card_of
from tests.data.own_tickets import write_csv
from tests.record.curve_files import provenance, rows, task
from tests.record.events import manifest
from tests.train.conftest import FLOAT32
from tests.train.exported_adapters import backbone_folder
from tests.trained_adapters import trained

ROLES = {"key": "*.pos_key_proj"}


def test_a_corrected_map_is_adapted_and_its_adapter_loads(tmp_path: Path) -> None:
    model = str(backbone_folder("deberta-v2", tmp_path / "model"))
    asked = {
        "model": model,
        "data": "mini",
        "tasks": ["cola"],
        "adapter": {"roles": "key"},
        "backbone": {"roles": ROLES},
    }
    plan = make_plan(build_spec({**asked, "examples": {"max_length": 30}}, "x.yaml"), "x.yaml")
    names = {site.name for site in plan.geometry.sites if site.role is Role.KEY}
    assert {name.rpartition(".")[2] for name in names} == {"key_proj", "pos_key_proj"}

    backbone = load_backbone(model, FLOAT32, plan.geometry)
    config = AdapterConfig(a_out=4, a_in=2, roles="key")
    adapters = trained(Adapters(backbone.base, plan.geometry, config, torch.Generator().manual_seed(0)))
    card = card_of(plan.geometry, config, backbone.fingerprint, backbone=model, roles=plan.spec.backbone.roles)
    save_adapter(tmp_path / "left", adapters.state(), card)
    adapters.detach()
    loaded = krona_tune.load(backbone.base, tmp_path / "left")
    assert {site.name for site in loaded.sites} == names


def test_curves_of_a_task_that_is_scored_otherwise_are_refused(tmp_path: Path, model: str) -> None:
    path = tmp_path / "theirs.parquet"
    write_curves(path, rows(), provenance().model_copy(update={"tasks": {"cola": task(metrics=("accuracy",))}}))
    asked = {"model": model, "data": "mini", "tasks": ["cola"], "search": {"warm_start": str(path)}}
    with pytest.raises(Refusal, match=r"cola is scored by accuracy in theirs\.parquet, by matthews here; leave it out"):
        make_plan(build_spec(asked, "x.yaml").settled(), "x.yaml")
    other = make_plan(build_spec({**asked, "tasks": ["rte"]}, "x.yaml").settled(), "x.yaml")
    assert other.taught is not None
    assert "cola" in other.taught.tasks
    assert other.earlier == ()


def test_a_block_is_no_role_of_a_new_study(model: str) -> None:
    adapter = {"a_out": 8, "a_in": 8, "roles": ["query", "query+feed_forward"]}
    asked = build_spec({"model": model, "data": "mini", "tasks": ["rte"], "adapter": adapter}, "x.yaml").settled()
    said = (
        r"x.yaml: adapter.roles: query\+feed_forward: feed_forward is a whole block; name its maps: feed_forward_in\+"
    )
    with pytest.raises(Refusal, match=said):
        make_plan(asked, "x.yaml")
    assert make_plan(asked, "x.yaml", manifest("rte")).space.searched()


def test_a_study_that_has_begun_goes_on_without_a_teacher_that_is_gone(tmp_path: Path, model: str) -> None:
    path = tmp_path / "theirs.parquet"
    write_curves(path, rows(), provenance())
    search = {"warm_start": [str(path)]}
    asked = build_spec({"model": model, "data": "mini", "tasks": ["rte"], "search": search}, "x.yaml").settled()
    first = make_plan(asked, "x.yaml")
    path.unlink()
    with pytest.raises(Refusal, match=r"theirs\.parquet"):
        make_plan(asked, "x.yaml")
    begun = manifest("rte").model_copy(update={"planned": first.planned})
    again = make_plan(asked, "x.yaml", begun)
    assert again.default == first.default
    (said,) = again.lacking()
    assert "theirs.parquet" in said
    assert "goes on without it" in said


@pytest.mark.slow
def test_a_search_that_ends_itself_needs_a_gain_where_a_score_may_have_any_unit(tmp_path: Path, model: str) -> None:
    some = [{"body": f"text {n}", "queue": "no" if n % 2 else "alarm"} for n in range(100)]
    task = {"data": str(write_csv(tmp_path / "alarms.csv", some)), "text": "body", "label": "queue"}
    task |= {"metric": "sklearn.metrics:hamming_loss", "direction": "lower"}

    def planned(own: dict[str, object], **search: object) -> Plan:
        asked = {"model": model, "data": "mini", "tasks": {"cola": "glue", **own}, "search": {"stop": "auto", **search}}
        return make_plan(build_spec(asked, "x.yaml").settled(), "x.yaml")

    with pytest.raises(Refusal, match=r"search\.stop: the score of alarms \(.*\) has no known bounds.*least_gain"):
        planned({"alarms": task})
    begun = planned({"alarms": task}, least_gain=0.02).spec
    assert make_plan(build_spec(begun.plain(), "x.yaml"), "x.yaml").spec == begun
    assert planned({}).spec.search.least_gain == 0.02


@pytest.mark.parametrize(
    ("examples", "seen"),
    [({"train": 300}, 900.0), ({"train": {"default": 300, "cola": 500}}, 1000.0), ({}, None)],
)
def test_a_plan_knows_how_many_examples_its_longest_training_sees(
    model: str, examples: dict[str, object], seen: float | None
) -> None:
    schedule = {"epochs": {"default": 2, "rte": 3}}
    asked = {"model": model, "data": "mini", "tasks": ["rte", "cola"], "examples": examples, "schedule": schedule}
    asked |= {"adapter": {"a_out": "divisors", "a_in": "divisors"}}
    spec = build_spec(asked, "x.yaml").settled()
    plan = make_plan(spec, "x.yaml")
    assert plan.planned.seen == seen
    older = manifest("rte").model_copy(update={"planned": plan.planned.model_copy(update={"seen": None})})
    assert make_plan(spec, "x.yaml", older).planned.seen is None, "it goes on with the points that it began with"
    assert plan.planned.by_depth
    before = manifest("rte").model_copy(update={"planned": plan.planned.model_copy(update={"by_depth": False})})
    assert make_plan(spec, "x.yaml", manifest("rte").model_copy(update={"planned": plan.planned})).planned.seen == seen
    for began in (before, before.model_copy(update={"planned": None})):
        assert not make_plan(spec, "x.yaml", began).planned.by_depth


def test_a_study_goes_on_with_the_cutoff_with_which_it_began(model: str) -> None:
    adapter = {"a_out": "divisors", "a_in": "divisors"}
    spec = build_spec({"model": model, "data": "mini", "tasks": ["rte"], "adapter": adapter}, "x.yaml").settled()
    new = make_plan(spec, "x.yaml").planned
    assert new.exact_cutoff
    for planned in (new, PlanFacts(), None):
        began = manifest("rte").model_copy(update={"planned": planned})
        assert make_plan(spec, "x.yaml", began).planned.exact_cutoff is (planned is new)


def test_a_study_goes_on_with_the_choice_with_which_it_began(model: str) -> None:
    adapter = {"a_out": "divisors", "a_in": "divisors"}
    spec = build_spec({"model": model, "data": "mini", "tasks": ["rte"], "adapter": adapter}, "x.yaml").settled()
    assert make_plan(spec, "x.yaml").means_decide
    began = manifest("rte")
    facts = began.tasks["rte"]
    for means_decide in (True, False):
        tasks = {"rte": facts.model_copy(update={"means_decide": means_decide})}
        plan = make_plan(spec, "x.yaml", began.model_copy(update={"tasks": tasks}))
        assert plan.means_decide is means_decide


def test_a_study_that_began_with_the_rates_of_before_keeps_its_points(model: str) -> None:
    adapter = {"a_out": "divisors", "a_in": "divisors", "layers": "all"}
    rates = {"learning_rate": {"low": 1e-5, "high": 1.0, "log": True}}
    asked = {"model": model, "data": "mini", "tasks": ["rte"], "adapter": adapter, "training": rates}
    spec = build_spec(asked, "x.yaml").settled()
    new = make_plan(spec, "x.yaml")
    began = manifest("rte").model_copy(update={"planned": new.planned.model_copy(update={"by_depth": False})})
    before = make_plan(spec, "x.yaml", began)
    assert (before.default, len(before.taught_points)) == (new.default, len(new.taught_points))
    assert all(
        old["learning_rate"] > point["learning_rate"]
        for old, point in zip(before.taught_points, new.taught_points, strict=True)
    )
    again = make_plan(spec, "x.yaml", manifest("rte").model_copy(update={"planned": new.planned}))
    assert again.taught_points == new.taught_points
