"""Tests that a file of contributed curves is read as it was written, and that a foreign or damaged one is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from krona_tune.record.contributed_curves import PROVENANCE, read_curves, write_curves
from krona_tune.record.recorded_curves import COLUMNS
from krona_tune.refusal import Refusal
from tests.record.curve_files import provenance, rows

Rows = list[dict[str, Any]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "theirs.parquet"


def changed(path: Path, table: pa.Table, **said: Any) -> Path:
    """Writes a table with the provenance of a sound file, of which some keys are others."""
    whole = {**json.loads(provenance().model_dump_json()), **said}
    pq.write_table(table.replace_schema_metadata({PROVENANCE: json.dumps(whole)}), path)
    return path


def table(path: Path, change: Callable[[Rows], object] = list) -> pa.Table:
    """Returns the rows of a sound file, changed."""
    write_curves(path, rows(), provenance())
    found = pq.read_table(path)
    listed = found.to_pylist()
    change(listed)
    return pa.Table.from_pylist(listed, found.schema)


def refused(path: Path) -> str:
    with pytest.raises(Refusal) as caught:
        read_curves(path)
    assert str(path) in str(caught.value)
    assert "; " in str(caught.value), "a fix follows"
    return str(caught.value)


def test_what_was_written_is_read_again(path: Path) -> None:
    write_curves(path, rows(), provenance())
    found = read_curves(path)
    assert list(found.rows) == rows()
    assert found.provenance == provenance()
    assert tuple(found.rows[0]) == COLUMNS
    with pytest.raises(Refusal, match="is there already; choose another name"):
        write_curves(path, rows(), provenance())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found[1].update(score=None), "row 1 has no number as its score"),
        (lambda found: found[1].update(score=float("nan")), "row 1 has no number as its score"),
        (lambda found: found[1].update(score=-1.1), "row 1 has a score that matthews can't have: -1.1"),
        (lambda found: found[1].update(score=5e5), "row 1 has a score that matthews can't have: 500000"),
        (lambda found: found[0].update(status="interrupted"), "row 0 is of a trial that has not ended: 'interrupted'"),
        (lambda found: found[0].update(status="won"), "row 0 is of a trial that has not ended: 'won'"),
        (lambda found: found[0].update(task="other"), "row 0 is of the task 'other', which its provenance lacks"),
        (lambda found: found[0].update(roles=None), "row 0 has no roles"),
        (lambda found: found[0].update(scale=float("nan")), "row 0 has no scale"),
        (lambda found: found[0].update(terms=1.5), "row 0 has no whole number as its terms"),
        (lambda found: found[0].update(scale=9.0), "has other values than another row of the point 0"),
        (lambda found: found.append(dict(found[0])), "the point 0 of cola has no later examples after 1 epochs"),
        (lambda found: found[0].update(epochs=float("inf")), "row 0 has an impossible epochs: inf"),
        (lambda found: found[0].update(learning_rate=1e300), "row 0 has an impossible learning_rate: 1e+300"),
        (lambda found: found[1].update(epochs=-7.0), "row 1 is a report after no training"),
        (lambda found: found[1].update(examples=-1), "row 1 is a report after no training"),
        (lambda found: found[1].update(examples=1), "the point 0 of cola has no later examples after 1 epochs"),
        (lambda found: found[1].update(seed=99), "the point 0 of cola has more than one seed"),
        (lambda found: found[0].update(epochs=None), "the point 0 of cola has a row without a report beside others"),
        (lambda found: found[0].update(kind="final"), "row 0 is of another kind than search: 'final'"),
        (lambda found: found.__setitem__(slice(None), found[::2]), "no point has more than one report"),
        (lambda found: [each.update(score=None, status="diverged") for each in found], "no trial of cola has a score"),
    ],
)
def test_what_no_finished_study_leaves_is_refused(
    path: Path, tmp_path: Path, change: Callable[[Rows], object], message: str
) -> None:
    assert message in refused(changed(tmp_path / "odd.parquet", table(path, change)))


def test_a_file_that_is_foreign_is_refused_with_what_to_do(path: Path, tmp_path: Path) -> None:
    odd, sound = tmp_path / "odd.parquet", table(path)
    assert "there is no such file; name a file that krona-tune contribute wrote" in refused(odd)
    odd.write_text("PAR1 no", encoding="utf-8")
    assert "is no Parquet file" in refused(odd)
    pq.write_table(sound.replace_schema_metadata(None), odd)
    assert "does not say where its curves are from" in refused(odd)
    assert "has the format 2, this version reads 1; install the version that wrote it" in refused(
        changed(odd, sound, format=2)
    )
    assert "its provenance is damaged at tasks.cola.budget" in refused(
        changed(odd, sound, tasks={"cola": {**provenance().tasks["cola"].model_dump(), "budget": 0}})
    )
    wide = {**provenance().model.model_dump(), "width": 2**61 - 1}
    assert "its provenance is damaged at model.width" in refused(changed(odd, sound, model=wide))
    for damaged in (b"{", b"[" * 200_000):
        pq.write_table(sound.replace_schema_metadata({PROVENANCE: damaged}), odd)
        assert "its provenance is damaged; write the file again" in refused(odd)
    assert "has no column terms" in refused(changed(odd, sound.drop_columns(["terms"])))
    words = sound.set_column(sound.column_names.index("scale"), "scale", pa.array(["a"] * len(sound)))
    assert "the column scale does not hold double" in refused(changed(odd, words))
