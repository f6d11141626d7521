"""Tests that a README.md says what an adapter is and how to load it, and that no text of a card leaves its place."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from krona_tune.adapters.adapter_files import README
from krona_tune.adapters.decoding import Decoding
from krona_tune.adapters.export_forms import Form, Publication
from krona_tune.adapters.model_card import render_model_card
from krona_tune.data.tasks import TASKS, Generation, Task
from tests.adapters.cards import made, saved


def front(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_a_saved_adapter_has_a_model_card(tmp_path: Path) -> None:
    saved(tmp_path / "mnli", "bert")
    text = (tmp_path / "mnli" / README).read_text(encoding="utf-8")
    assert front(text) == {
        "library_name": "krona_tune",
        "base_model": "org/tiny",
        "pipeline_tag": "text-classification",
        "metrics": ["accuracy"],
        "tags": ["kronecker-adapter", "krona", "mnli", "synthetic-data"],
    }
    assert (
        "| half | score (synthetic) | accuracy (synthetic) |\n|---|---|---|\n| validation | 0.5000 | 0.5000 |" in text
    )
    assert "| test |" not in text
    assert "num_labels=3" in text
    assert "krona_tune.load(model, 'mnli')" in text
    assert "`python run_study.py --tasks mnli`" in text
    assert "say nothing about real GLUE" in text


def test_real_data_are_not_called_synthetic_and_the_test_half_is_shown() -> None:
    text = render_model_card(
        made(synthetic=False, test_score=0.25, test_metrics={"accuracy": 0.25}), Form.MERGED, "out"
    )
    assert "synthetic" not in text
    assert front(text)["datasets"] == ["nyu-mll/glue"]
    assert front(text)["library_name"] == "transformers"
    assert "| test | 0.2500 | 0.2500 |" in text


def test_it_says_what_the_data_are_and_whose_licence_holds() -> None:
    named = Publication(licence={"license": "other", "license_name": "own", "license_link": "https://host/x"})
    text = render_model_card(made(synthetic=False), Form.MERGED, "out", named)
    assert "| its licence | other own https://host/x |" in text
    assert "| data | mnli of GLUE |" in text
    text = render_model_card(made(), Form.MERGED, "out")
    assert "| its licence | unknown here; see the backbone's own card |" in text
    assert "| data | synthetic mini-GLUE |" in text


def test_what_is_published_names_its_licence_its_interval_and_the_repository() -> None:
    published = Publication(licence={"license": "other", "license_name": "a\nb"}, repo="me/cola")
    card = made(test_score=0.25, test_interval=(0.2, 0.3))
    text = render_model_card(card, Form.ADAPTER, "out", published)
    assert {key: front(text)[key] for key in ("license", "license_name")} == {"license": "other", "license_name": "a b"}
    assert "| test | 0.2500 (0.200 to 0.300) | – |" in text
    assert "95 % interval of this adapter's test score" in text
    assert "snapshot_download('me/cola')" in text
    assert "from_pretrained('me/cola')" in render_model_card(card, Form.MERGED, "out", published)
    assert "interval" not in render_model_card(made(), Form.ADAPTER, "out")


def test_what_the_seeds_of_a_configuration_say_stands_in_every_form_without_markup() -> None:
    said = ("A constant answer has 0.550 on <b>the</b> study's\nvalidation examples.", "1 of 3 seeds did not learn.")
    for form in Form:
        lines = render_model_card(made(verdicts=said), form, "out").splitlines()
        assert "A constant answer has 0.550 on bthe/b study's validation examples." in lines
        assert said[1] in lines


@pytest.mark.parametrize("form", [form for form in Form if not form.facts.names_backbone])
def test_a_folder_is_named_without_the_way_to_it(form: Form) -> None:
    text = render_model_card(made(backbone="/home/someone/models/tiny"), form, "out")
    assert "base_model" not in front(text)
    assert "`tiny`" in text
    assert "someone" not in text


def test_no_string_of_a_card_breaks_out_of_its_place() -> None:
    evil = "x\n---\n`|<script>[a](b)\n# heading {{ 7 * 7 }}"
    card = made(task=evil, backbone=evil, study=evil, command=evil, trial_id=evil, selected_by=evil, labels=(evil,) * 3,
                metrics={evil: 0.5}, params={evil: evil}, precision=evil, krona_tune_version=evil)  # fmt: skip
    text = render_model_card(card, Form.ADAPTER, evil)
    found = front(text)
    assert found["metrics"] == [" ".join(evil.split())]
    assert found["tags"] == ["kronecker-adapter", "krona", " ".join(evil.split()), "synthetic-data"]
    body = text.split("## Use")[0].split("---\n", 2)[2] + text.split("## Where it comes from")[1]
    assert "\n# heading" not in body
    assert "49" not in body
    assert all(line.count("|") in (0, 3, 4) for line in body.splitlines())


@pytest.mark.parametrize(
    ("task", "prompt", "candidates"),
    [
        ("mnli", "mnli hypothesis: {hypothesis} premise: {premise}", "`entailment`, `neutral`, `contradiction`."),
        ("stsb", "stsb sentence1: {sentence1} sentence2: {sentence2}", "`0.0`, `0.2`, `0.4`, "),
    ],
)
def test_a_model_that_answers_in_words_is_said_what_it_reads_and_which_it_chooses_from(
    task: str, prompt: str, candidates: str
) -> None:
    text = render_model_card(made("t5", task=task, labels=TASKS[task].candidates), Form.MERGED, "out")
    assert f"It reads this prompt:\n\n```text\n{prompt}\n```\n\nIts answer is the most likely of these" in text
    assert f"candidates, each with its end of sequence: {candidates}" in text
    assert "prompt" not in render_model_card(made(task=task), Form.MERGED, "out")


def test_a_decoder_chooses_from_words_after_a_blank() -> None:
    facts: dict[str, Any] = {"text_to_text": True, "pad_token_id": 0, "labels": TASKS["mnli"].candidates}
    text = render_model_card(made("llama", **facts), Form.MERGED, "out")
    assert "of these candidates, each after a blank and with its end of sequence: `entailment`, " in text


@pytest.mark.parametrize(
    ("family", "before", "said"),
    [("llama", None, "{a}+{b}="), ("llama", "", "{a}+{b}= "), ("t5", None, "{a}+{b}= ")],
)
def test_a_decoders_prompt_is_said_without_the_blanks_at_its_end(family: str, before: str | None, said: str) -> None:
    asks = Generation(prompt="{a}+{b}= ")
    task = Task(name="sums", title="Sums", inputs=("a", "b"), labels=(), metrics=("exact_match",), generation=asks)
    facts: dict[str, Any] = {"own_task": task, "labels": (), "text_to_text": True}
    pad: dict[str, Any] = {"pad_token_id": 0} if family == "llama" else {}
    rules: dict[str, Any] = {"eos_token_id": (1,), "pad_token_id": 0, "decoder_start_token_id": None, "use_cache": True}
    decoding = Decoding(**rules, ends=("</s>",), before_answer=before)
    text = render_model_card(made(family, task="sums", decoding=decoding, **facts, **pad), Form.MERGED, "out")
    assert f"```text\n{said}\n```" in text


def test_an_adapter_of_weights_in_few_bits_says_so() -> None:
    assert "were kept in nf4 while it was trained; in more" in render_model_card(made(quantize="nf4"), Form.PEFT, "out")
    assert "were kept in" not in render_model_card(made(), Form.PEFT, "out")


def test_the_share_of_examples_that_were_cut_is_said() -> None:
    for share, said in (
        (None, "at most 30 tokens.\n"),
        (0.0625, "at most 30 tokens, to which 6.2 % of its examples were"),
    ):
        assert said in render_model_card(made(cut_share=share), Form.ADAPTER, "out")
