"""Tests that a geometry is found once, kept, and found again without torch; and that the shipped ones are right."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from krona_tune.backbones import find_geometry
from krona_tune.backbones.find_geometry import SHIPPED, from_json, geometry, meaning_of, shipped_file, to_json
from krona_tune.backbones.geometry import Role
from krona_tune.backbones.introspect import introspect
from krona_tune.refusal import Refusal
from tests.backbones.ship import configs
from tests.models import CONFIGS, ENCODER

WITHOUT_TORCH = """
import json, sys
from krona_tune.backbones.find_geometry import geometry
print(geometry(json.loads(sys.argv[1])).parameters, "torch" in sys.modules)
"""


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Returns what makes this process forget the geometries that it knows."""
    return lambda: monkeypatch.setattr(find_geometry, "FOUND", {})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]) -> Path:
    """Returns the folder of an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    return Path(platformdirs.user_cache_path("krona_tune")) / "geometry"


def in_another_process(config: object) -> list[str]:
    words = [sys.executable, "-c", WITHOUT_TORCH, json.dumps(config)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_written_geometry_is_read_back_equal(name: str) -> None:
    model_type, values = CONFIGS[name]
    shape = geometry({"model_type": model_type, **values})
    assert from_json(to_json(shape)) == shape


def test_what_was_found_once_needs_no_torch(cache: Path) -> None:
    config = {"model_type": "bert", **ENCODER, "hidden_dropout_prob": 0.3}
    parameters = str(geometry(config).parameters)
    assert in_another_process({**config, "hidden_dropout_prob": 0.1, "_name_or_path": "x"}) == [parameters, "False"]
    geometry({**config, "vocab_size": 98})
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("keep", ["", "{}", '{"format": 1}', None], ids=["empty", "{}", "format", "cut"])
def test_a_damaged_file_of_the_cache_is_made_again(cache: Path, keep: str | None, forget: Callable[[], None]) -> None:
    config = {"model_type": "bert", **ENCODER}
    shape = geometry(config)
    [file] = cache.iterdir()
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole[:-20] if keep is None else keep, encoding="utf-8")
    forget()
    assert geometry(config) == shape
    assert file.read_text(encoding="utf-8") == whole


def test_a_cache_that_can_not_be_written_changes_nothing(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file in its place", encoding="utf-8")
    assert geometry({"model_type": "bert", **ENCODER, "hidden_size": 48}).width == 48


def test_the_shipped_geometries_are_what_is_found_now() -> None:
    """If this fails, run `python -m tests.backbones.ship`."""
    files = {shipped_file(meaning_of(config)): introspect(config, "here") for config in configs()}
    assert set(SHIPPED.glob("*.json")) == set(files)
    for path, shape in files.items():
        assert from_json(path.read_text(encoding="utf-8")) == shape


def test_the_backbone_of_a_first_study_needs_no_torch() -> None:
    assert in_another_process(configs()[0]) == ["22713216", "False"]


def test_the_key_knows_what_decides_and_nothing_else() -> None:
    config = {"model_type": "mpt", "d_model": 24, "attn_config": {"attn_pdrop": 0.1, "alibi": True}}
    other = {
        **config,
        "attn_config": {"attn_pdrop": 0.3, "alibi": True},
        "resid_pdrop": 0.2,
    }
    assert meaning_of(config) == meaning_of(other)
    t5 = {"model_type": "t5", "is_encoder_decoder": True}
    assert meaning_of(t5) == meaning_of({**t5, "tie_word_embeddings": True})
    assert meaning_of(config) != meaning_of({**config, "tie_word_embeddings": True})  # a decoder's class may not tie
    for name in ("block_ffn_dim_multiplier", "expansion_factor", "mlp_ratio"):
        assert meaning_of({**config, name: 1.0}) != meaning_of({**config, name: 1.5})
    assert meaning_of(config) != meaning_of({**config, "attn_config": {"alibi": False}})
    assert meaning_of({"num_key_value_heads": None}) != meaning_of({})  # a class may have another default than null
    roles = {Role.QUERY: "*.query", Role.KEY: "attention.self.*"}
    assert meaning_of(config, roles) != meaning_of(config, dict(reversed(roles.items())))


def test_a_process_remembers_what_it_can_not_write(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file in its place", encoding="utf-8")
    config = {"model_type": "bert", **ENCODER, "hidden_size": 36}
    assert geometry(config) is geometry(dict(config))


def test_a_decoder_that_would_see_what_it_learns_to_write_is_refused() -> None:
    """A BertGeneration's config says that it is no decoder, unless somebody writes it."""
    config = {**ENCODER, "model_type": "bert-generation"}
    said = r'^x: is_decoder: a bert-generation that is no decoder .*; write "is_decoder": true'
    with pytest.raises(Refusal, match=said):
        geometry(config, "x")
    assert geometry({**config, "is_decoder": True}, "x").writes_alone
