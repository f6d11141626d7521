"""Tests that a hub out of reach is found out once, forgotten after a while, and no other process's business."""

import os
import subprocess
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

import krona_tune
from krona_tune import hub
from krona_tune.api.driver_process import start_driver
from krona_tune.hub import OFFLINE, PROXIES, refuse_hidden_packages, settle_offline
from krona_tune.refusal import Refusal


@pytest.fixture(autouse=True)
def unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets this process look for the hub as if nobody had said or found anything."""
    for name in (OFFLINE, *PROXIES):
        monkeypatch.setenv(name, "")  # so that the test's change is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(hub.hub_state, "lost_at", None)
    monkeypatch.setattr(huggingface_hub.constants, OFFLINE, False)


def lose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names a hub that no host can be."""
    monkeypatch.setenv("HF_ENDPOINT", "https://" + "x" * 300)
    settle_offline()


def offline() -> tuple[str | None, bool]:
    settle_offline()
    return os.environ.get(OFFLINE), huggingface_hub.constants.HF_HUB_OFFLINE


def test_a_hub_whose_name_no_host_can_have_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    lose(monkeypatch)
    assert offline() == ("1", True)


def test_a_hub_that_was_out_of_reach_is_asked_for_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = OSError("no answer")
    answers = iter([lost, lost, [], lost])
    asked: list[str] = []

    def resolved(host: str, port: int) -> Any:
        asked.append(host)
        if isinstance(answer := next(answers), OSError):
            raise answer
        return answer

    monkeypatch.setattr("krona_tune.hub.socket.getaddrinfo", resolved)
    assert [offline(), offline()] == [("1", True)] * 2
    assert len(asked) == 1, "a lost hub would be asked for at each call"
    monkeypatch.setattr(hub, "AGAIN_SECONDS", 0.0)
    assert [offline(), offline(), offline()] == [("1", True), (None, False), ("1", True)]


def test_what_a_person_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFFLINE, "0")
    lose(monkeypatch)
    assert offline() == ("0", False)


def test_a_driver_looks_for_the_hub_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun: list[dict[str, str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: begun.append(env))
    lose(monkeypatch)
    start_driver([], tmp_path / "output.txt", environment={"ANN": "1"})
    monkeypatch.setattr(hub.hub_state, "lost_at", None)  # now a person has set the variable
    start_driver([], tmp_path / "output.txt")
    assert [each.get(OFFLINE) for each in begun] == [None, "1"]
    assert begun[0]["ANN"] == "1"
    assert begun[0]["HF_ENDPOINT"] == os.environ["HF_ENDPOINT"]


@pytest.mark.parametrize(
    ("own", "refused"), [("datasets/__init__.py", "datasets"), ("ray.py", "ray.py"), ("torch/a", "")]
)
def test_what_stands_in_a_package_s_place_beside_the_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, refused: str
) -> None:
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).touch()
    monkeypatch.syspath_prepend(tmp_path)
    if not refused:
        refuse_hidden_packages()  # a folder without __init__.py hides nothing
        return
    with pytest.raises(Refusal) as found:
        krona_tune.Study  # noqa: B018
    package = refused.removesuffix(".py")
    said = f"{tmp_path / refused}: it is imported in place of the package {package}; rename it, or start elsewhere"
    assert str(found.value) == said


def test_a_package_that_is_installed_from_beside_the_program_hides_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ray.py").touch()
    monkeypatch.setattr("sys.path", [str(tmp_path), str(tmp_path)])
    refuse_hidden_packages()
