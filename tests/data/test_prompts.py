"""Tests what a model reads of an example and learns to write, token by token."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from krona_tune.data.batches import NO_TOKEN, evaluation_batches, lengths, target_lengths, training_batches
from krona_tune.data.corpus import TaskData
from krona_tune.data.encode import encode
from krona_tune.data.prompts import (
    PromptWriter,
    around_answer,
    changed_targets,
    refuse_long_targets,
    refuse_without_room,
    stop_ids,
)
from krona_tune.data.tasks import Generation, Task
from krona_tune.refusal import Refusal
from tests.language_models import CHAT, END, character_tokenizer


def task(prompt: str = "{a}+{b}=", **settings: object) -> Task:
    asked = Generation(prompt=prompt, **settings)  # type: ignore[arg-type]
    return Task(name="sums", title="sums", inputs=("a", "b"), labels=(), metrics=("exact_match",), generation=asked)


def written(of: Task, texts: tuple[str, ...], target: str, **how: Any) -> tuple[str, str]:
    """Returns what a model reads and writes, with its special tokens."""
    decoder = how.pop("decoder", True)
    tokenizer = how.pop("tokenizer", None) or character_tokenizer(encoder=not decoder, **how)
    writer = PromptWriter(of, tokenizer, decoder=decoder, max_length=60)
    [read], [wrote] = writer.written([texts], [target])
    return tokenizer.decode(read), tokenizer.decode(wrote)


def chatting(template: str) -> PreTrainedTokenizerFast:
    """Returns a tokenizer whose template changes the usual one of the tests."""
    tokenizer = character_tokenizer(chat=True)
    tokenizer.chat_template = template
    return tokenizer


def test_a_decoder_continues_its_prompt_after_a_blank_and_ends() -> None:
    assert written(task(), ("12", "34"), "46") == ("12+34=", " 46</s>")
    assert written(task("{a} {b}\n"), ("1", "2"), "3")[1] == "3</s>"


def test_a_blank_at_the_end_of_a_prompt_begins_the_target() -> None:
    assert written(task("{a}+{b}= "), ("12", "34"), "46 ") == ("12+34=", " 46</s>")


def test_an_encoder_reads_a_whole_prompt_and_its_decoder_writes_a_whole_text() -> None:
    assert written(task(), ("12", "34"), "46", decoder=False) == ("12+34=</s>", "46</s>")


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
@pytest.mark.parametrize(("prompt", "expected"), [("{a} is:", ["▁46"]), ("{a} is\n", ["46"])])
def test_a_target_has_the_tokens_that_it_has_after_its_prompt(scheme: str, prompt: str, expected: list[str]) -> None:
    """Many decoders' tokenizers put a blank before a text, which a target alone would have twice."""
    pieces = ["<unk>", END, "▁", "▁46", "46", "▁is", "is", ":", "▁x", "x", "\n"]
    whole = Tokenizer(models.Unigram([(piece, -float(len(pieces) - len(piece))) for piece in pieces], 0))
    whole.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=whole, unk_token="<unk>", eos_token=END, pad_token=END)
    writer = PromptWriter(task(prompt), tokenizer, decoder=True, max_length=60)
    _, [ids] = writer.written([("x", "")], ["46"])
    assert tokenizer.convert_ids_to_tokens(ids) == [*expected, END]


def test_in_a_chat_template_the_prompt_is_a_message_and_the_answer_ends_as_a_turn() -> None:
    tokenizer = character_tokenizer(chat=True)
    turn = tokenizer.convert_tokens_to_ids("<turn>")
    assert around_answer(task(), tokenizer) == (" ", turn)
    assert written(task(), ("1", "2"), "3", chat=True) == ("<turn>u: 1+2=<turn><turn>a:", " 3<turn>")
    assert stop_ids(task(), tokenizer) == sorted((turn, tokenizer.eos_token_id))
    plain = task(chat_template=False)
    assert written(plain, ("1", "2"), "3", chat=True) == ("1+2=", " 3</s>")
    assert stop_ids(plain, tokenizer) == [tokenizer.eos_token_id]


def test_a_thought_that_a_template_puts_before_an_answer_belongs_to_the_prompt() -> None:
    thinking = chatting(CHAT.replace("{{ m['content'] }}", "{{ '? ' if m['role'] == 'assistant' }}{{ m['content'] }}"))
    assert around_answer(task(), thinking)[0] == " ? "
    assert written(task(), ("1", "2"), "3", tokenizer=thinking) == ("<turn>u: 1+2=<turn><turn>a: ?", " 3<turn>")


def test_a_turn_that_ends_with_words_ends_with_the_end_of_sequence() -> None:
    worded = chatting(CHAT.replace("{{ m['content'] }}<turn>", "{{ m['content'] }}."))
    assert stop_ids(task(), worded) == [worded.eos_token_id]
    assert written(task(), ("1", "2"), "3", tokenizer=worded)[1] == " 3</s>"


def test_a_template_that_fails_is_refused_with_what_to_write() -> None:
    with pytest.raises(Refusal) as refused:
        written(task(), ("1", "2"), "3", tokenizer=chatting("{{ raise_exception('no') }}"))
    assert str(refused.value).startswith(
        "tasks.sums.chat_template: the tokenizer's chat template does not take a user's"
    )
    assert str(refused.value).endswith("; write chat_template: false")


NO_DAY_GIVEN = "{% if day is not defined %}{% set day = strftime_now(format='%-d %b %Y 100%%') %}{% endif %}"


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("{{ strftime_now('%d.%m.%Y') }} ", "01.01.2025 "),
        (NO_DAY_GIVEN + "{{ day }} ", "1 Jan 2025 100% "),
        ("{% macro day(how) %}{{ strftime_now(how) }}{% endmacro %}{{ day('%A, %B %e') }} ", "Wednesday, January  1 "),
        ("\n  {% if true %}\n x{% endif %}{# strftime_now #}", "\n x"),
    ],
)
def test_a_template_reads_the_same_prompts_on_any_day(before: str, expected: str) -> None:
    dated, plain = chatting(before + CHAT), chatting(CHAT)
    found, without = (PromptWriter(task(), each, decoder=True, max_length=60).identity[1] for each in (dated, plain))
    assert found == expected + without
    assert around_answer(task(), dated) == around_answer(task(), plain)


def test_braces_in_texts_and_unknown_names_stay_as_they_are() -> None:
    assert task("{a} {c} {b}{}").prompt(("{b}", "x")) == "{b} {c} x{}"


def test_a_prompt_of_which_the_tokenizer_leaves_nothing_is_refused_where_a_decoder_would_continue_it() -> None:
    asked = PromptWriter(task("{a}{b}"), character_tokenizer(), decoder=True, max_length=20)
    assert asked.written([("x", " ")], ["1"])
    with pytest.raises(Refusal, match=r"examples of sums: the tokenizer leaves nothing of '  '; take it out"):
        asked.written([("x", "y"), (" ", " ")], ["1", "2"])


def test_the_longest_text_of_an_example_is_cut_not_the_prompt() -> None:
    tokenizer = character_tokenizer()
    writer = PromptWriter(task("a: {a} b: {b} ="), tokenizer, decoder=True, max_length=20)
    [ids, whole], targets = writer.written([("x" * 50, "yy"), ("x", "y")], ["1", "2"])
    read = tokenizer.decode(ids)
    assert 15 <= len(ids) <= 20
    assert read.startswith("a: x")
    assert read.endswith("x b: yy =")
    assert tokenizer.decode(whole) == "a: x b: y ="
    assert list(map(tokenizer.decode, targets)) == [" 1</s>", " 2</s>"]
    with pytest.raises(Refusal, match="max_length: 5 tokens leave no room beside the prompt of sums; raise it"):
        PromptWriter(task("a: {a} b: {b} ="), tokenizer, decoder=True, max_length=5).written([("xx", "yy")], ["1"])


def data(of: Task, targets: list[str]) -> TaskData:
    rows = pa.table({"a": ["1", "22", "333"], "b": ["4", "5", "6"], "label": targets})
    return TaskData(
        task=of, train=rows, validation=rows, test=rows, provenance="", synthetic=False, fingerprint=str(targets)
    )


def encoded(of: Task, targets: list[str], cache: Path) -> pa.Table:
    return encode(
        data(of, targets), character_tokenizer(), prompts=True, max_length=30, cache=cache, decoder=True
    ).train


def test_a_table_has_prompts_and_targets_and_its_batches_pad_both(tmp_path: Path) -> None:
    table = encoded(task(), ["5", "27", "339"], tmp_path)
    assert table.column_names == ["input_ids", "target_ids", "label"]
    assert table["label"].to_pylist() == ["5", "27", "339"]
    assert lengths(table).tolist() == [4 + 3, 5 + 4, 6 + 5]
    [batch] = evaluation_batches(table, 1000, 0)
    assert batch.rows.tolist() == [2, 1, 0]
    assert batch.inputs["attention_mask"].sum(1).tolist() == [6, 5, 4]
    assert (batch.labels == NO_TOKEN).sum(1).tolist() == [0, 1, 2]
    assert batch.labels.dtype == np.int64
    [part, _] = next(training_batches(table, 3, np.random.default_rng(0), 0)).parts(2)
    assert part.labels.shape == (2, 5)


def test_another_prompt_or_end_is_another_table(tmp_path: Path) -> None:
    """The words of a tokenizer do not tell its end of sequence."""
    for of in (task(), task("{a}{b}"), task("{b}+{a}=")):
        encoded(of, ["5", "27", "339"], tmp_path)
    for decoder, end in ((False, END), (True, "<turn>")):
        tokenizer = character_tokenizer()
        tokenizer.eos_token = end
        encode(
            data(task(), ["5", "27", "339"]), tokenizer, prompts=True, max_length=30, cache=tmp_path, decoder=decoder
        )
    assert len(list(tmp_path.glob("*.arrow"))) == 10


def test_targets_longer_than_an_answer_are_refused_with_their_number_and_the_longest(tmp_path: Path) -> None:
    table = encoded(task(), ["5", "2777", "33999"], tmp_path)
    with pytest.raises(Refusal) as refused:
        refuse_long_targets(task(max_new_tokens=4), table, "train")
    assert str(refused.value) == (
        "tasks.sums.max_new_tokens: 4, but 2 train targets are longer, the longest has 7 tokens; "
        "write 7, or leave long examples out"
    )
    refuse_long_targets(task(max_new_tokens=7), table, "train")
    refuse_long_targets(replace(task(max_new_tokens=4), metrics=("perplexity",)), table, "train")


def test_targets_beyond_the_model_s_positions_are_refused_where_nothing_is_written_too(tmp_path: Path) -> None:
    perplexing = replace(task(), metrics=("perplexity",))
    table = encoded(perplexing, ["5", "2777", "33999"], tmp_path)
    whole, target = int(lengths(table).max()), int(target_lengths(table).max())
    with pytest.raises(Refusal) as refused:
        refuse_without_room(perplexing, table, "train", whole - 1, decoder=True)
    assert str(refused.value) == (
        f"tasks.sums.target: the longest train example has {whole} tokens of prompt and target, "
        f"the model has room for {whole - 1}; leave long examples out, or lower examples.max_length"
    )
    with pytest.raises(Refusal, match=f"has {target} tokens of target, the model has room for {target - 1}; leave lo"):
        refuse_without_room(perplexing, table, "train", target - 1, decoder=False)
    refuse_without_room(perplexing, table, "train", whole, decoder=True)
    refuse_without_room(perplexing, table, "train", target, decoder=False)
    refuse_without_room(perplexing, table, "train", None, decoder=True)


def test_targets_that_the_tokenizer_changes_are_counted(tmp_path: Path) -> None:
    table = encoded(task(), ["5", "Ü7", "3Ü9"], tmp_path)
    [said] = changed_targets(task(), table, "test", character_tokenizer())
    assert (
        said
        == "2 of the first 3 test targets of sums are not the same after the model's tokenizer, the first is number 2"
    )
