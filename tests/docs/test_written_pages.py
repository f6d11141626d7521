"""Tests that the references and the glossary are whole as files, and as the program makes them."""

from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT
from tests.docs.written_pages import COMMAND, WRITTEN, generated_pages, rewritten

pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
pytest.importorskip("peft", reason="the extra `peft` is not installed")


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_a_reference_is_as_the_program_makes_it(page: Path) -> None:
    assert rewritten(page) == page.read_text(encoding="utf-8"), f"the page is out of date; make it again: {COMMAND}"


def test_every_text_has_its_page_and_no_page_is_filled_only_in_a_build() -> None:
    texts = "".join(page.read_text(encoding="utf-8") for page in WRITTEN)
    assert not [name for name in generated_pages().TEXTS if f"{COMMAND}: {name} -->" not in texts]
    stubs = [page.name for page in PAGES if "```{include}" in page.read_text(encoding="utf-8")]
    assert stubs == ["contributing.md"]
    assert (ROOT / "CONTRIBUTING.md").exists()
