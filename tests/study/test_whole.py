"""A text file is there whole or as it was before."""

from pathlib import Path

import pytest

from krona_tune.study.whole import put


def test_a_file_that_finds_no_room_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = put(tmp_path / "study.yaml", "seed: 7\n")

    def half(path: Path, text: str, encoding: str) -> int:
        path.write_bytes(text[:3].encode(encoding))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space left"):
        put(request, "seed: 8\n")
    assert request.read_text(encoding="utf-8") == "seed: 7\n"
    assert list(tmp_path.iterdir()) == [request]
