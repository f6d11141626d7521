"""Tests that an export reaches the hub as asked, or is refused, and that nothing half done is called done."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from huggingface_hub.utils import close_session, disable_progress_bars, enable_progress_bars

from krona_tune import cli
from krona_tune.adapters.adapter_card import CARD, read_card
from krona_tune.adapters.model_card import README
from krona_tune.train.hub_push import MESSAGE, find_licence
from tests.conftest import Run
from tests.train.exported_adapters import adapter_folder, backbone_folder
from tests.train.stand_in_hub import TOKEN, Hub, standing_in

REPO = "mine/cola-krona"
FILES = {"adapter.json", "adapter.safetensors", README}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes an adapter of a backbone of the hub, which is in a folder whose card names its licence."""
    root = tmp_path_factory.mktemp("pushed")
    backbone = backbone_folder("bert", root / "backbone")
    (backbone / README).write_text("---\nlicense: mit\n---\n# A backbone\n", encoding="utf-8")
    adapter = adapter_folder(backbone, root / "adapter")
    card = read_card(adapter).model_copy(update={"backbone": "org/tiny"})
    (adapter / CARD).write_text(card.model_dump_json(), encoding="utf-8")
    return adapter


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Makes huggingface_hub, which read its variables when it was imported, ask a stand-in with a known token, and
    not wait between its attempts."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    with standing_in() as hub:
        _ask(monkeypatch, hub.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        close_session()
        disable_progress_bars()
        yield hub
        enable_progress_bars()
        close_session()


def _ask(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def push(run: Run, adapter: Path) -> Run:
    """Exports the adapter in our form to `out` and pushes it."""
    words = ("export", adapter, "--model", adapter.parent / "backbone", "--format", "adapter", "--to", "out", "--push")
    return partial(partial(run, program=cli.main), *words)


@pytest.mark.parametrize(("words", "private", "seen"), [([], True, "private"), (["--public"], False, "everybody")])
def test_all_files_arrive_in_one_commit_and_are_private_by_default(
    push: Run, hub: Hub, words: list[str], private: bool, seen: str
) -> None:
    code, out, err = push(REPO, *words)
    assert (code, err) == (0, "")
    assert f"Uploaded to {hub.address}/{REPO} ({seen}" in out
    assert hub.private == {REPO: private}
    assert hub.messages == [MESSAGE]
    assert hub.files[REPO] == {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert hub.files[REPO].keys() == FILES
    readme = hub.files[REPO][README].decode()
    header = yaml.safe_load(readme.split("---\n")[1])
    assert (header["license"], header["library_name"]) == ("mit", "krona_tune")
    assert "synthetic-data" in header["tags"]
    assert "say nothing about real GLUE" in readme
    assert f"snapshot_download('{REPO}')" in readme
    assert "from_pretrained('org/tiny', " in readme


def test_a_second_export_goes_to_the_same_private_repository(push: Run, hub: Hub) -> None:
    hub.private, hub.files = {REPO: True}, {REPO: {"notes.md": b"mine", "adapter.json": b"of before"}}
    assert push(REPO, "--license", "apache-2.0")[0] == 0
    assert hub.files[REPO].keys() == FILES | {"notes.md"}
    assert b"license: apache-2.0" in hub.files[REPO][README]


@pytest.mark.parametrize(
    ("private", "words", "message"),
    [
        (False, [], f"--push: {REPO} is there already and is public; add --public, or choose another name\n"),
        (True, ["--public"], f"--push: {REPO} is there already and is private; leave --public out, or choose "),
    ],
)
def test_what_is_there_and_is_seen_by_others_than_asked_is_refused(
    push: Run, hub: Hub, private: bool, words: list[str], message: str
) -> None:
    hub.private, hub.files = {REPO: private}, {REPO: {}}
    code, out, err = push(REPO, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert (hub.files[REPO], Path("out").exists()) == ({}, False)


@pytest.mark.parametrize("file", ["adapter_config.json", "model-00001-of-00002.safetensors", "model.onnx"])
def test_a_repository_with_another_form_is_refused(push: Run, hub: Hub, file: str) -> None:
    hub.private, hub.files = {REPO: True}, {REPO: {file: b""}}
    code, out, err = push(REPO)
    assert (code, out) == (2, "")
    assert err == (
        f"--push: {REPO} holds {file}, by which another form than adapter is loaded; choose another name, or delete "
        "that export there\n"
    )
    assert (hub.files[REPO], Path("out").exists()) == ({file: b""}, False)


@pytest.mark.parametrize("name", ["cola", "a/b/c", "mine/", "mine/co la", "-x/..", "http://host/x"])
def test_what_is_no_name_on_the_hub_is_refused_without_asking_it(push: Run, hub: Hub, name: str) -> None:
    code, out, err = push(f"--push={name}") if name.startswith("-") else push(name)
    assert (code, out) == (2, "")
    assert not Path("out").exists()
    assert not hub.asked
    if not name.startswith("-"):
        assert err == f"--push: {name!r} is no name on the hub; write ORG/NAME, for example --push mine/cola-krona\n"


def test_without_a_token_nothing_is_exported(push: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    said = "--push: no token of the hub is known; set HF_TOKEN, or run `hf auth login`\n"
    assert push(REPO) == (2, "", said)
    assert not Path("out").exists()


def test_a_token_that_the_hub_does_not_know_is_refused_and_not_shown(
    push: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_unknownunknown")
    code, out, err = push(REPO)
    assert (code, out) == (2, "")
    assert err.startswith("--push: the hub does not take the token; make one that may write")
    assert "hf_unknown" not in err
    assert (hub.private, Path("out").exists()) == ({}, False)


def test_offline_nothing_is_exported(push: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, out, err = push(REPO)
    assert (code, out) == (2, "")
    assert "--push: the hub can't be reached, or HF_HUB_OFFLINE is set; export without --push" in err
    assert not Path("out").exists()


def test_a_hub_that_does_not_answer_is_refused(push: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.breaks_at = "whoami"
    code, out, err = push(REPO)
    assert (code, out) == (2, "")
    assert err.startswith("--push: the hub can't be asked (")
    assert not Path("out").exists()


@pytest.mark.parametrize("place", ["/repos/create", "/preupload/", "/commit/"])
def test_a_connection_lost_in_the_middle_is_not_called_an_upload(push: Run, hub: Hub, place: str) -> None:
    hub.breaks_at = place
    code, out, err = push(REPO)
    assert code == 2
    assert "Written to " in out
    assert "Uploaded" not in out
    assert err.startswith(f"--push: the hub did not confirm the upload to {REPO} (")
    assert f"hf upload {REPO} {Path.cwd() / 'out'} --private" in err
    assert not hub.files.get(REPO)
    assert {path.name for path in Path("out").iterdir()} == FILES


def test_public_without_push_and_an_odd_licence_are_refused(run: Run, adapter: Path) -> None:
    words = ("export", adapter, "--to", "out")
    said = "--public: it is about what --push uploads; add --push ORG/NAME, or leave it out\n"
    assert run(*words, "--public", program=cli.main) == (2, "", said)
    code, _, err = run(*words, "--license", "my own", program=cli.main)
    assert (code, err) == (2, "--license: 'my own' is no word of the hub; name it as --license apache-2.0\n")


def test_a_licence_that_nobody_names_is_refused(run: Run, hub: Hub, tmp_path: Path) -> None:
    unnamed = adapter_folder(backbone_folder("bert", tmp_path / "backbone"), tmp_path / "adapter")
    code, out, err = run("export", unnamed, "--to", "out", "--push", REPO, program=cli.main)
    assert (code, out) == (2, "")
    assert err.startswith(f"--license: the licence of {tmp_path / 'backbone'} is unknown; name it as the hub does, ")
    assert not Path("out").exists()


def test_the_licence_is_looked_for_beside_the_weights_and_then_on_the_hub(hub: Hub, adapter: Path) -> None:
    backbone = adapter.parent / "backbone"
    hub.licences["org/tiny"] = "gpl-3.0"
    assert find_licence("org/tiny") == {"license": "gpl-3.0"}
    assert find_licence("org/tiny", str(backbone)) == {"license": "mit"}


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("license: other\nlicense_name: own\nlicense_link: https://host/x", {"license_link": "https://host/x"}),
        ("license: other\nlicense_name: own\nlicense_link: LICENSE", {}),
    ],
)
def test_a_licence_of_its_own_comes_with_its_name_and_its_link(
    header: str, found: dict[str, str], tmp_path: Path
) -> None:
    backbone = backbone_folder("bert", tmp_path / "backbone")
    (backbone / README).write_text(f"---\n{header}\n---\n", encoding="utf-8")
    assert find_licence(str(backbone)) == {"license": "other", "license_name": "own"} | found


@pytest.mark.parametrize(
    "text", ["", "# no header", "---\n- a list\n---\n", "---\na: [\n---\n", "---\nlicense: 3\n---\n"]
)
def test_an_odd_card_names_no_licence(text: str, tmp_path: Path) -> None:
    backbone = backbone_folder("bert", tmp_path / "backbone")
    (backbone / README).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"the licence of .* is unknown"):
        find_licence(str(backbone))


PROGRAM = """
import sys
from pathlib import Path
from krona_tune.adapters.export_forms import Form
from krona_tune.train.hub_push import find_destination, push
print(push(find_destination(sys.argv[1], Form.ADAPTER, public=False), Path(sys.argv[2])))
assert "torch" not in sys.modules
"""


def test_a_process_that_reads_its_variables_itself_uploads(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_bytes(b"content")
    variables = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    words = [sys.executable, "-c", PROGRAM, REPO, str(tmp_path / "out")]
    done = subprocess.run(words, env=variables | {"HF_HOME": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{hub.address}/{REPO}"
    assert hub.files == {REPO: {"a.txt": b"content"}}
