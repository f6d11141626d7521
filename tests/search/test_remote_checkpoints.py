"""Tests that a trial resumes from the state that a worker on another machine kept, without access to its disk."""

from pathlib import Path

from krona_tune.search.worker.trainable import KronaTrial, Workplace
from tests.search.workers import WORKS, all_steps, config, measured


def worker(location: str, checkpoints: Path, elsewhere: Path) -> KronaTrial:
    place = Workplace(
        folder=location,
        name="nowhere",
        precision="fp32",
        gpu=False,
        threads=1,
        checkpoints=str(checkpoints),
        elsewhere=f"file://{elsewhere}",
    )
    made = object.__new__(KronaTrial)
    made.config = config(7)
    made.setup(made.config, works=WORKS, workplace=place)
    return made


def test_a_trial_goes_on_from_the_rung_that_another_machine_kept(location: str, tmp_path: Path) -> None:
    undisturbed = measured(all_steps(worker(location, tmp_path / "alone", tmp_path / "nothing")))
    first = worker(location, tmp_path / "a", tmp_path / "bucket")
    before = measured([first.step()])
    first.cleanup()
    second = worker(location, tmp_path / "b", tmp_path / "bucket")
    repeated, *rest = measured(all_steps(second))
    assert [repeated] == before
    assert [repeated, *rest] == undisturbed
    assert [path.name for path in (tmp_path / "bucket" / "rte-007").iterdir()] == [
        path.with_suffix(".zip").name for path in (tmp_path / "b" / "rte-007").glob("rung-*")
    ]


def test_a_state_that_is_damaged_here_is_taken_from_there(location: str, tmp_path: Path) -> None:
    first = worker(location, tmp_path / "a", tmp_path / "bucket")
    before = measured([first.step()])
    first.cleanup()
    (kept,) = (tmp_path / "a" / "rte-007").glob("rung-*")
    (kept / "adapter.safetensors").write_bytes(b"half")
    second = worker(location, tmp_path / "a", tmp_path / "bucket")
    assert measured([second.step()]) == before
    second.cleanup()
    assert (kept.parent / f"unusable-{kept.name}").is_dir()
    assert kept.is_dir()
