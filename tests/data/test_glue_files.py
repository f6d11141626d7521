"""Tests where a task's files are looked for, and what is said where they are not."""

import os
from pathlib import Path

from krona_tune.data import corpus
from krona_tune.data.tasks import TASKS
from tests.data.glue_examples import refusal_of


def test_one_tasks_own_folder_serves_that_task(write_tsv, write_parquet, tmp_path, monkeypatch):
    write_tsv(TASKS["cola"])
    write_parquet(TASKS["rte"], "some name")
    for name, folder in (("cola", "CoLA"), ("rte", "some name")):
        corpus.check(str(tmp_path / folder), [name])
        assert corpus.load(TASKS[name], str(tmp_path / folder)).train.num_rows == 12
    monkeypatch.chdir(tmp_path / "CoLA")
    assert corpus.load(TASKS["cola"], ".").train.num_rows == 12


def test_one_tasks_own_folder_serves_no_other_task(write_tsv, tmp_path):
    write_tsv(TASKS["rte"])
    folder = str(tmp_path / "RTE")
    assert "no data for WNLI: looked in" in refusal_of(corpus.load, TASKS["wnli"], folder)
    message = refusal_of(corpus.check, folder, ["rte", "wnli"])
    assert "no data for RTE" in message
    assert "one task's own folder serves that task only" in message


def test_a_missing_file_is_refused_with_what_was_looked_for_and_found(write_tsv, tmp_path):
    write_tsv(TASKS["mnli"])
    (tmp_path / "MNLI" / "dev_matched.tsv").unlink()
    expected = (
        f"--data {tmp_path}: no data for MNLI: looked in {tmp_path}/MNLI for "
        "train.tsv, dev_mismatched.tsv, dev_matched.tsv or "
        "train-*.parquet, validation_mismatched-*.parquet, validation_matched-*.parquet, "
        f"found in {tmp_path}/MNLI: dev_mismatched.tsv, train.tsv; give the folder above the tasks' folders"
    )
    assert refusal_of(corpus.check, str(tmp_path), ["mnli"]) == expected
    assert refusal_of(corpus.load, TASKS["mnli"], str(tmp_path)) == expected


def test_a_folder_without_the_task_is_refused_with_what_it_holds(write_tsv, tmp_path):
    write_tsv(TASKS["cola"])
    message = refusal_of(corpus.check, str(tmp_path), ["cola", "qnli"])
    assert f"no data for QNLI: looked in {tmp_path}/QNLI for train.tsv, dev.tsv" in message
    assert f"found in {tmp_path}: CoLA/" in message


def test_an_empty_folder_of_a_tasks_name_does_not_hide_the_full_one(write_tsv, tmp_path):
    (tmp_path / "SST2").mkdir()
    write_tsv(TASKS["sst2"], "sst-2")
    assert corpus.load(TASKS["sst2"], str(tmp_path)).test.num_rows == 7


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    missing = tmp_path / "none"
    for action in (lambda: corpus.check(str(missing), ["rte"]), lambda: corpus.load(TASKS["rte"], str(missing))):
        assert refusal_of(action) == (
            f"--data {missing}: no such folder as {missing}; give a folder with GLUE's files, or hub, or mini"
        )
    assert "can't be read (File name too long)" in refusal_of(corpus.check, str(tmp_path / ("x" * 300)), ["rte"])
    (tmp_path / "file").touch()
    said = refusal_of(corpus.check, str(tmp_path / "file"), ["rte"])
    assert "not a folder" in said
    assert f"describe it in a --tasks file: tasks: {{NAME: {{data: {tmp_path / 'file'}, text: COLUMN" in said
    (tmp_path / "file.csv").touch()
    said = refusal_of(corpus.check, str(tmp_path / "file.csv"), ["rte"])
    assert f"write --tasks {tmp_path / 'file.csv'}:TEXT:LABEL with its columns" in said


def test_a_missing_shard_is_refused(write_parquet, tmp_path):
    write_parquet(TASKS["rte"])
    (tmp_path / "rte" / "train-00001-of-00002.parquet").unlink()
    assert refusal_of(corpus.check, str(tmp_path), ["rte"]) == (
        f"{tmp_path}/rte: the shards of train are incomplete or mixed: train-00000-of-00002.parquet; fetch them again"
    )


def test_a_pipe_is_no_data(write_parquet, tmp_path):
    write_parquet(TASKS["rte"])
    path = tmp_path / "rte" / "validation-00000-of-00001.parquet"
    path.unlink()
    os.mkfifo(path)
    assert "no data for RTE" in refusal_of(corpus.check, str(tmp_path), ["rte"])


def test_a_home_folder_is_understood(write_tsv, tmp_path, monkeypatch):
    write_tsv(TASKS["rte"], "glue data/RTE")
    monkeypatch.setattr(Path, "expanduser", lambda path: Path(str(path).replace("~", str(tmp_path))))
    assert corpus.load(TASKS["rte"], "~/glue data").train.num_rows == 12
