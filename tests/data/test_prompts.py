"""Tests what a model reads of an example and learns to write, token by token."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from krona_tune.data.batches import NO_TOKEN, evaluation_batches, lengths, training_batches
from krona_tune.data.corpus import TaskData
from krona_tune.data.encode import encode
from krona_tune.data.prompts import PromptWriter, around_answer, stop_ids
from krona_tune.data.tasks import Generation, Task
from krona_tune.refusal import Refusal
from tests.writers import END, character_tokenizer


def task(prompt: str = "{a}+{b}=", **settings: object) -> Task:
    asked = Generation(prompt=prompt, **settings)  # type: ignore[arg-type]
    return Task(name="sums", title="sums", inputs=("a", "b"), labels=(), metrics=("exact_match",), generation=asked)


def written(of: Task, texts: tuple[str, ...], target: str, **how: bool) -> tuple[str, str]:
    """Returns what a model reads and writes, with its special tokens."""
    decoder, chat, most = how.get("decoder", True), how.get("chat", False), 60
    tokenizer = character_tokenizer(encoder=not decoder, chat=chat)
    writer = PromptWriter(of, tokenizer, decoder=decoder, max_length=most)
    ids = (writer.prompts([texts])[0], writer.targets([texts], [target])[0])
    return tuple(map(tokenizer.decode, ids))  # type: ignore[return-value]


def test_a_decoder_continues_its_prompt_after_a_blank_and_ends() -> None:
    assert written(task(), ("12", "34"), "46") == ("12+34=", " 46</s>")
    assert written(task("{a} {b}\n"), ("1", "2"), "3")[1] == "3</s>"


def test_an_encoder_reads_a_whole_prompt_and_its_decoder_writes_a_whole_text() -> None:
    assert written(task(), ("12", "34"), "46", decoder=False) == ("12+34=</s>", "46</s>")


def test_in_a_chat_template_the_prompt_is_a_message_and_the_answer_ends_as_a_turn() -> None:
    tokenizer = character_tokenizer(chat=True)
    assert around_answer(tokenizer) == ("", "<turn>")
    assert written(task(), ("1", "2"), "3", chat=True) == ("<turn>u: 1+2=<turn><turn>a: ", "3<turn>")
    assert stop_ids(task(), tokenizer) == sorted(map(tokenizer.convert_tokens_to_ids, (END, "<turn>")))
    plain = task(chat_template=False)
    assert written(plain, ("1", "2"), "3", chat=True) == ("1+2=", " 3</s>")
    assert stop_ids(plain, tokenizer) == [tokenizer.eos_token_id]


def test_a_thought_that_a_template_puts_before_an_answer_belongs_to_the_prompt() -> None:
    tokenizer = character_tokenizer(chat=True)
    own = str(tokenizer.chat_template).replace(
        "{{ m['content'] }}", "{{ '? ' if m['role'][0] == 'a' }}{{ m['content'] }}"
    )
    tokenizer.chat_template = own
    assert around_answer(tokenizer) == ("? ", "<turn>")
    writer = PromptWriter(task(), tokenizer, decoder=True, max_length=60)
    assert tokenizer.decode(writer.prompts([("1", "2")])[0]).endswith("a: ? ")


def test_braces_in_texts_and_unknown_names_stay_as_they_are() -> None:
    assert task("{a} {c} {b}{}").prompt(("{b}", "x")) == "{b} {c} x{}"


def test_the_longest_text_of_an_example_is_cut_not_the_prompt() -> None:
    tokenizer = character_tokenizer()
    writer = PromptWriter(task("a: {a} b: {b} ="), tokenizer, decoder=True, max_length=20)
    [ids] = writer.prompts([("x" * 50, "yy")])
    read = tokenizer.decode(ids)
    assert 15 <= len(ids) <= 20
    assert read.startswith("a: x")
    assert read.endswith("x b: yy =")
    with pytest.raises(Refusal, match="max_length: 5 tokens leave no room beside the prompt of sums"):
        PromptWriter(task("a: {a} b: {b} ="), tokenizer, decoder=True, max_length=5).prompts([("xx", "yy")])


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


def test_another_prompt_or_the_kind_of_model_is_another_table(tmp_path: Path) -> None:
    for of in (task(), task("{a}{b}"), task(chat_template=False)):
        encoded(of, ["5", "27", "339"], tmp_path)
    assert len(list(tmp_path.glob("*.arrow"))) == 6


def test_targets_longer_than_an_answer_are_refused_with_their_number_and_the_longest(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        encoded(task(max_new_tokens=4), ["5", "2777", "33999"], tmp_path)
    assert str(refused.value) == (
        "tasks.sums.max_new_tokens: 4, but 2 train targets are longer, the longest of 7 tokens is '33999'; "
        "write 7, or leave long examples out"
    )
