"""Tests that an unreadable manifest is refused by its name, whatever is in its place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from krona_tune.refusal import Refusal
from krona_tune.study.manifest import read_manifest
from tests.record.damage import a_folder, a_pipe
from tests.record.events import manifest

Damage = Callable[[Path], object]


def without_a_value(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 7,', ""), encoding="utf-8")


DAMAGES: dict[str, tuple[Damage, str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is damaged (Invalid JSON: EOF"),
    "half": (lambda path: path.write_bytes(path.read_bytes()[:99]), "is damaged (Invalid JSON: EOF"),
    "binary": (lambda path: path.write_bytes(b"\xff\xfe\0"), "can't be read (UnicodeDecodeError"),
    "another": (lambda path: path.write_text("[1, 2]", encoding="utf-8"), "is damaged (Input should be an object)"),
    "deep": (lambda path: path.write_text("[" * 100_000, encoding="utf-8"), "is damaged (Invalid JSON: recursion"),
    "without a value": (without_a_value, "is damaged (seed: Field required)"),
    "folder": (a_folder, "is no file"),
    "pipe": (a_pipe, "is no file"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_manifest_is_refused(tmp_path: Path, damage: Damage, said: str) -> None:
    path = tmp_path / "manifest.json"
    manifest("cola").write(path)
    damage(path)
    with pytest.raises(Refusal) as refused:
        read_manifest(path)
    assert str(refused.value).startswith(f"{path}: {said}")
    assert str(refused.value).endswith("in the run of a task; results/ and adapters/ do not need it")


def test_a_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text('{"format": 2, "new": true}', encoding="utf-8")
    with pytest.raises(Refusal, match=r"was written by a newer krona_tune \(format 2, this version reads up to 1\)"):
        read_manifest(path)


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        Refusal, match=r"no study is here \(no manifest.json\); run it first, or name the folder of a study"
    ):
        read_manifest(tmp_path / "manifest.json")


def test_an_older_manifest_knows_by_its_request_which_tasks_average(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    request = {"tasks.costs.direction": "lower", "tasks.rte.direction": "higher"}
    manifest("rte", "costs", "wiki").model_copy(update={"request": request}).write(path)
    older = json.loads(path.read_text(encoding="utf-8"))
    for facts in older["tasks"].values():
        del facts["averages"]
    older["tasks"]["wiki"]["metrics"] = ["perplexity"]
    path.write_text(json.dumps(older), encoding="utf-8")
    assert {task: facts.averages for task, facts in read_manifest(path).tasks.items()} == {
        "rte": True,
        "costs": False,
        "wiki": False,
    }
    path.write_text(json.dumps(older | {"request": None}), encoding="utf-8")
    assert [task for task, facts in read_manifest(path).tasks.items() if not facts.averages] == ["wiki"]


def test_an_older_manifest_knows_by_its_request_how_many_seeds_finals_have(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"

    def seeds(**more: Any) -> list[int | None]:
        manifest("rte", "cola").write(path)
        older = json.loads(path.read_text(encoding="utf-8"))
        for facts in older["tasks"].values():
            del facts["final_seeds"]
        path.write_text(json.dumps(older | more), encoding="utf-8")
        return [facts.final_seeds for facts in read_manifest(path).tasks.values()]

    assert seeds(request={"finalists.seeds": 5}) == [5, 5]
    assert seeds(request={"finalists.top": 1}) == [3, 3], "what is at its default is not recorded"
    assert seeds() == [None, None]


def test_the_share_of_cut_examples_is_of_train_and_validation() -> None:
    facts = manifest("cola").tasks["cola"]
    assert facts.cut_share is None
    counted = facts.model_copy(update={"max_length": 64, "cut_examples": 11})
    assert counted.cut_share == 11 / (facts.train_examples + facts.validation_examples)
