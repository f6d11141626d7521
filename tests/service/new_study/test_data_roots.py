"""Tests that what lies below the roots is found, and nothing that lies or leads elsewhere."""

import json
import os
from pathlib import Path

import pytest

from krona_tune.refusal import Refusal
from krona_tune.service.new_study import data_roots
from krona_tune.service.new_study.data_roots import MOST_DEPTH, DataRoots
from tests.backbone_folders import MINILM, folder_of

HEADER = "text,label\nx,1\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "in").mkdir(parents=True)
    return tmp_path / "root"


def write(path: Path, content: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def files(*folders: Path) -> list[Path]:
    return list(DataRoots.at(folders).find().files)


def models(*folders: Path) -> list[Path]:
    return list(DataRoots.at(folders).find().models)


def test_data_files_are_found_at_any_depth_by_their_endings(root: Path) -> None:
    wanted = [write(root / name) for name in ("a.csv", "b.TSV", "in/c.jsonl", "in/d.ndjson", "in/deep/e.parquet")]
    for name in ("f.json", "g.txt", "h.csv.gz", ".i.csv", ".hidden/j.csv", "study.yaml", "metric.py", "k\nl.csv"):
        write(root / name)
    os.mkfifo(root / "m.csv")
    (root / "n.csv").mkdir()
    write(root / Path(*["d"] * MOST_DEPTH, "o.csv"))
    write(root / Path(*["d"] * (MOST_DEPTH + 1), "p.csv"))
    found = files(root)
    assert set(found) == {*wanted, root / Path(*["d"] * MOST_DEPTH, "o.csv")}
    assert DataRoots.at([root]).title(wanted[2]) == "root/in/c.jsonl"


def test_a_link_is_followed_as_far_as_the_roots_reach(root: Path, tmp_path: Path) -> None:
    inside, outside, other = write(root / "in/a"), write(tmp_path / "secret.csv"), write(tmp_path / "other/b")
    for name, to in {"in.csv": inside, "other.csv": other, "out.csv": outside, "gone.csv": root / "none"}.items():
        (root / name).symlink_to(to)
    (root / "loop.csv").symlink_to(root / "loop.csv")
    (root / "device.csv").symlink_to("/dev/zero")
    (root / "relative.csv").symlink_to("../secret.csv")
    (root / "folder").symlink_to(tmp_path)
    (root / "round").symlink_to(root)
    assert files(root) == [root / "in.csv"]
    assert set(files(root, tmp_path / "other")) == {root / "in.csv", root / "other.csv"}


def test_a_folder_that_lists_its_files_but_opens_none_hides_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, read = write(root / "closed/in/a.csv").parent.parent, write(root / "in/b.csv")
    real = os.access
    monkeypatch.setattr(data_roots.os, "access", lambda path, mode: Path(path) != closed and real(path, mode))
    assert files(root) == [read]


def test_a_root_that_is_a_link_is_the_folder_that_it_leads_to_and_is_looked_through_once(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(root)
    write(root / "in/a.csv")
    assert files(tmp_path / "link", root, root / "in") == [root / "in/a.csv"]


def test_models_are_folders_with_safe_weights_that_lead_nowhere_else(root: Path, tmp_path: Path) -> None:
    plain = folder_of(MINILM, root / "plain")
    parts = folder_of(MINILM, root / "parts")
    (parts / "model.safetensors").rename(parts / "model-1.safetensors")
    index = parts / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    linked = folder_of(MINILM, root / "linked")
    (linked / "model.safetensors").rename(root / "in/blob")
    (linked / "model.safetensors").symlink_to(root / "in/blob")
    assert set(models(root)) == {plain, parts, linked}

    index.write_text(json.dumps({"weight_map": {"a": "../../outside.safetensors"}}))
    write(tmp_path / "outside.safetensors")
    (plain / "model.safetensors").rename(plain / "pytorch_model.bin")
    (linked / "vocab.txt").symlink_to(write(tmp_path / "vocab.txt"))
    write(folder_of(MINILM, root / "adapter") / "adapter_config.json", "{}")
    folder_of(MINILM, tmp_path / "elsewhere")
    (root / "away").symlink_to(tmp_path / "elsewhere")
    assert models(root) == []


def test_glue_s_files_are_offered_by_task_and_not_as_files_of_one_s_own(root: Path, tmp_path: Path) -> None:
    glue = root / "glue"
    for name in ("train.tsv", "dev.tsv"):
        write(glue / "CoLA" / name)
        write(tmp_path / "outside" / name)
    write(glue / "RTE/train.tsv")
    (glue / "SST-2").symlink_to(tmp_path / "outside")
    own = write(root / "own.csv")
    found = DataRoots.at([root]).find()
    assert found.glue == {glue: ("cola",)}
    assert found.files == (glue / "RTE/train.tsv", own)
    assert DataRoots.at([glue]).find().glue == {glue: ("cola",)}


def test_more_than_can_be_listed_is_left_out_and_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        write(root / f"{number}.csv")
    assert not DataRoots.at([root]).find().left_out
    monkeypatch.setattr(data_roots, "MOST_LISTED", 3)
    found = DataRoots.at([root]).find()
    assert (len(found.files), found.left_out) == (3, True)
    monkeypatch.setattr(data_roots, "MOST_SEEN", 2)
    assert DataRoots.at([root]).find().left_out


def test_a_root_that_is_no_folder_is_refused(root: Path) -> None:
    for place in (root / "none", write(root / "a.csv")):
        with pytest.raises(Refusal, match=r"--data-root: .* is no folder that can be read"):
            DataRoots.at([place])
