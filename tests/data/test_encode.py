"""Tests that texts are encoded to the tokenizer's ids once; the cache is found again, but never used if damaged."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from krona_tune.data.corpus import TaskData
from krona_tune.data.encode import (
    Tokenization,
    cut_examples,
    encode,
    encode_test,
    given_texts,
    joins_texts,
    splitting_fingerprint,
    tokenizer_fingerprint,
    tokens_fingerprint,
    vocabulary_fingerprint,
)
from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *["rte", "cola", "sentence", "sentence1", "sentence2", ":", "tea", "rain", "is", "wet", "hot", "it", "so"],
]


def make_tokenizer(words=WORDS, *, type_ids=True, pad="[PAD]", **settings):
    ids = {word: at for at, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    names = ["input_ids", *(["token_type_ids"] if type_ids else []), "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=pad, unk_token="[UNK]", model_input_names=names, **settings
    )


def make_data(name="rte", *, rows=3, fingerprint="f" * 64):
    task = TASKS[name]

    def table(word):
        texts = {
            n: [f"it is {word}" + " so" * (at * min(i, 9)) for i in range(rows)] for at, n in enumerate(task.inputs, 1)
        }
        label = [0.5] * rows if task.is_regression else [i % 2 for i in range(rows)]
        return pa.table({**texts, "label": label})

    return TaskData(
        task=task,
        train=table("tea"),
        validation=table("wet"),
        test=table("hot"),
        provenance="made here",
        synthetic=True,
        fingerprint=fingerprint,
    )


@pytest.fixture
def tokenizer():
    return make_tokenizer()


def words_of(table):
    return [" ".join(WORDS[i] for i in ids) for ids in table["input_ids"].to_pylist()]


def test_a_pair_becomes_one_sequence_with_types(tokenizer, tmp_path):
    encoded = encode(make_data(), tokenizer, prompts=False, max_length=32, cache=tmp_path)
    assert words_of(encoded.train)[:2] == [
        "[CLS] it is tea [SEP] it is tea [SEP]",
        "[CLS] it is tea so [SEP] it is tea so so [SEP]",
    ]
    assert words_of(encoded.validation)[0] == "[CLS] it is wet [SEP] it is wet [SEP]"
    assert encoded.train["token_type_ids"].to_pylist()[0] == [0] * 5 + [1] * 4
    assert encoded.train["label"].to_pylist() == [0, 1, 0]
    assert encoded.train.schema == pa.schema(
        {"input_ids": pa.list_(pa.int32()), "token_type_ids": pa.list_(pa.int8()), "label": pa.int64()}
    )
    assert encoded.pad_token_id == 0


def test_a_single_text_becomes_one_sequence_without_types_where_the_tokenizer_has_none(tmp_path):
    encoded = encode(make_data("cola"), make_tokenizer(type_ids=False), prompts=False, max_length=32, cache=tmp_path)
    assert words_of(encoded.train)[0] == "[CLS] it is tea [SEP]"
    assert encoded.train.column_names == ["input_ids", "label"]


def test_a_prompt_is_one_text_with_the_tasks_words(tokenizer, tmp_path):
    encoded = encode(make_data(), tokenizer, prompts=True, max_length=32, cache=tmp_path)
    assert words_of(encoded.train)[0] == "[CLS] rte sentence1 : it is tea sentence2 : it is tea [SEP]"


def test_two_texts_that_nothing_would_part_are_parted_by_a_line_break(tokenizer):
    plain = make_tokenizer(type_ids=False)
    plain.backend_tokenizer.post_processor = processors.Sequence([])
    pair, texts = TASKS["rte"], [["a", "c"], ["b", "d"]]
    assert given_texts(pair, plain, texts, prompts=False) == [["a\nb", "c\nd"]]
    assert given_texts(pair, tokenizer, texts, prompts=False) == texts
    assert (joins_texts(plain), joins_texts(tokenizer)) == (True, False)
    assert given_texts(TASKS["cola"], plain, [["a"]], prompts=False) == [["a"]]


def test_the_test_part_stands_alone(tokenizer, tmp_path):
    encode(make_data(), tokenizer, prompts=False, max_length=32, cache=tmp_path)
    assert not list(tmp_path.glob("*-test-*"))
    table = encode_test(make_data(), tokenizer, prompts=False, max_length=32, cache=tmp_path)
    assert words_of(table)[0] == "[CLS] it is hot [SEP] it is hot [SEP]"


def test_long_texts_are_cut_the_longest_first(tokenizer, tmp_path):
    encoded = encode(make_data(rows=6), tokenizer, prompts=False, max_length=11, cache=tmp_path)
    assert words_of(encoded.train)[-1] == "[CLS] it is tea so [SEP] it is tea so [SEP]"


@pytest.mark.parametrize("prompts", [True, False])
def test_of_texts_that_become_one_the_longest_is_cut_and_no_other(tokenizer, tmp_path, prompts):
    plain = make_tokenizer(type_ids=False)
    if not prompts:
        plain.backend_tokenizer.post_processor = processors.Sequence([])  # it puts nothing between two texts
    data = make_data()
    long = pa.table({"sentence1": ["so " * 50, "it is"], "sentence2": ["it is tea"] * 2, "label": [0, 1]})
    encoded = encode(replace(data, train=long), plain, prompts=prompts, max_length=16, cache=tmp_path)
    first, second = words_of(encoded.train)
    assert "it is tea" in first
    assert "so so" in first
    assert len(encoded.train["input_ids"][0]) <= 16
    assert "it is" in second
    assert cut_examples(encoded.train) == 1


def test_many_rows_keep_their_order_and_a_regression_its_numbers(tokenizer, tmp_path):
    data = make_data("stsb", rows=2_345)
    data = replace(data, train=data.train.set_column(2, "label", pa.array([i / 1_000 for i in range(2_345)])))
    encoded = encode(data, tokenizer, prompts=False, max_length=12, cache=tmp_path)
    assert encoded.train["label"].to_pylist() == [i / 1_000 for i in range(2_345)]
    assert encoded.train["input_ids"].num_chunks == 1
    lengths = [len(ids) for ids in encoded.train["input_ids"].to_pylist()]
    assert lengths == [min(9 + 3 * i, 12) for i in range(2_345)]


def test_a_table_that_is_a_slice_is_kept_whole(tokenizer, tmp_path):
    data = make_data(rows=9)
    sliced = replace(data, train=data.train.slice(3, 4))
    encoded = encode(sliced, tokenizer, prompts=False, max_length=64, cache=tmp_path)
    assert encoded.train["label"].to_pylist() == data.train["label"].to_pylist()[3:7]


class Untouchable:
    """A tokenizer that may be described but not called."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, *texts, **options):
        raise AssertionError("the cache was not used")


def test_the_second_time_nothing_is_tokenized(tokenizer, tmp_path):
    first = encode(make_data(), tokenizer, prompts=False, max_length=32, cache=tmp_path)
    second = encode(make_data(), Untouchable(tokenizer), prompts=False, max_length=32, cache=tmp_path)
    fresh = encode(make_data(), Untouchable(make_tokenizer()), prompts=False, max_length=32, cache=tmp_path)
    for encoded in (second, fresh):
        assert encoded.train == first.train
        assert encoded.validation == first.validation
        assert encoded.fingerprint == first.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"data": make_data(fingerprint="e" * 64)},
        {"tokenizer": make_tokenizer([*WORDS[:4], *reversed(WORDS[4:])])},
        {"tokenizer": make_tokenizer(split_special_tokens=True)},
        {"prompts": True},
        {"max_length": 31},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_goes_in_changes_the_file(change, tokenizer, tmp_path):
    usual = {"data": make_data(), "tokenizer": tokenizer, "prompts": False, "max_length": 32}
    first = encode(**usual, cache=tmp_path)
    second = encode(**(usual | change), cache=tmp_path)
    assert first.fingerprint != second.fingerprint
    assert len(list(tmp_path.glob("*.arrow"))) == 4


def renamed(data, *names, **changes):
    """Returns the same texts in columns of other names; their hash is the same."""
    parts = {part: getattr(data, part).rename_columns([*names, "label"]) for part in ("train", "validation", "test")}
    return replace(data, task=replace(data.task, inputs=names, **changes), **parts)


@pytest.mark.parametrize("changes", [{}, {"prompt_order": ("wet", "hot")}], ids=["their order", "another order"])
def test_a_prompt_has_the_names_that_the_columns_have_now(changes, tokenizer, tmp_path):
    reading = {"tokenizer": tokenizer, "prompts": True, "max_length": 32, "cache": tmp_path}
    encode(make_data(), **reading)
    encode(renamed(make_data(), "hot", "wet"), **reading)
    again = encode(renamed(make_data(), "hot", "wet", **changes), **reading)
    order = changes.get("prompt_order", ("hot", "wet"))
    assert words_of(again.train)[0] == "[CLS] rte " + " ".join(f"{name} : it is tea" for name in order) + " [SEP]"


def test_names_that_the_model_does_not_read_change_nothing(tokenizer, tmp_path):
    first, second = (
        encode(data, tokenizer, prompts=False, max_length=32, cache=tmp_path)
        for data in (make_data(), renamed(make_data(), "hot", "wet"))
    )
    assert first.fingerprint == second.fingerprint


def test_a_tokenizers_fingerprint_does_not_depend_on_its_last_call():
    used, fresh = make_tokenizer(), make_tokenizer()
    used(["it is"], truncation=True, max_length=5, padding=True)
    assert tokenizer_fingerprint(used) == tokenizer_fingerprint(fresh)
    assert tokenizer_fingerprint(make_tokenizer(type_ids=False)) != tokenizer_fingerprint(fresh)


def test_a_tokenizer_without_a_fast_backend_is_told_by_its_vocabulary_and_settings():
    class Slow:
        model_input_names = ("input_ids",)
        truncation_side = "right"

        def __init__(self, vocabulary, **more):
            self.get_vocab = lambda: vocabulary
            self.special_tokens_map = {"eos_token": "b"}
            self.init_kwargs = {"do_lower_case": True, "vocab_file": f"{id(self)}/words.txt"}
            self.__dict__.update(more)

    words = {"a": 0, "b": 1}
    others = [
        Slow({"a": 1, "b": 0}),
        Slow(words, init_kwargs={"do_lower_case": False}),
        Slow(words, special_tokens_map={"eos_token": "a"}),
        Slow(words, tgt_lang="de"),
    ]
    assert tokenizer_fingerprint(Slow(words)) == tokenizer_fingerprint(Slow({"b": 1, "a": 0}))
    assert len({tokenizer_fingerprint(each) for each in (Slow(words), *others)}) == 5


def test_a_vocabulary_is_known_by_its_words_and_their_ids_alone():
    used, words = make_tokenizer(), make_tokenizer().get_vocab()
    used(["it is"], truncation=True, max_length=5, padding=True)
    same = [used, make_tokenizer(type_ids=False), SimpleNamespace(get_vocab=lambda: dict(reversed(words.items())))]
    first, second = list(words)[:2]
    exchanged = {**words, first: words[second], second: words[first]}
    shifted = {word: number + 1 for word, number in words.items()}
    others = [SimpleNamespace(get_vocab=lambda words=each: words) for each in (exchanged, shifted)]
    assert len(set(map(vocabulary_fingerprint, same))) == 1
    assert len(set(map(vocabulary_fingerprint, [used, *others]))) == 3


def test_the_splitting_of_texts_is_known_by_their_ids():
    used, other = make_tokenizer(), make_tokenizer()
    before = splitting_fingerprint(used)
    used(["it is"], truncation=True, max_length=5, padding=True)
    assert splitting_fingerprint(used) == splitting_fingerprint(make_tokenizer()) == before
    other.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    assert splitting_fingerprint(other) != before


def test_tokens_are_known_by_their_ids_and_order_alone():
    def table(*rows):
        return pa.table({"input_ids": pa.array(rows, pa.list_(pa.int32())), "label": [0] * len(rows)})

    one = table([1, 2], [3])
    parts = pa.concat_tables([table([1, 2]), table([3])])
    assert tokens_fingerprint(one) == tokens_fingerprint(parts) == tokens_fingerprint(table([1, 2]), table([3]))
    others = [table([1], [2, 3]), table([3], [1, 2]), table([1, 2], [4])]
    assert len(set(map(tokens_fingerprint, [one, *others]))) == 4


def damage_by_cutting(content):
    return content[: len(content) // 2]


def damage_by_one_token(content):
    at = content.index((WORDS.index("tea")).to_bytes(4, "little"))
    return content[:at] + b"\x05" + content[at + 1 :]


def damage_everything(content):
    return b"\xff" * len(content)


@pytest.mark.parametrize(
    "damage",
    [damage_by_cutting, damage_by_one_token, damage_everything, lambda content: b""],
    ids=["cut", "one token", "everything", "empty"],
)
def test_a_damaged_file_is_set_aside_and_made_again(damage, tokenizer, tmp_path, caplog):
    first = encode(make_data(), tokenizer, prompts=False, max_length=32, cache=tmp_path)
    rows = first.train.to_pylist()
    (path,) = tmp_path.glob("rte-train-*.arrow")
    damaged = damage(path.read_bytes())
    path.unlink()  # the table above still maps the old file
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        again = encode(make_data(), tokenizer, prompts=False, max_length=32, cache=tmp_path)
    assert again.train.to_pylist() == rows
    assert path.with_suffix(".corrupt").read_bytes() == damaged
    assert "renamed to *.corrupt" in caplog.text
    caplog.clear()
    encode(make_data(), Untouchable(tokenizer), prompts=False, max_length=32, cache=tmp_path)
    assert not caplog.text


def test_every_flipped_byte_gives_the_same_tables(tokenizer, tmp_path):
    data = make_data()
    rows = encode(data, tokenizer, prompts=False, max_length=32, cache=tmp_path).train.to_pylist()
    (path,) = tmp_path.glob("rte-train-*.arrow")
    content = path.read_bytes()
    for at in range(0, len(content), 29):
        path.unlink()
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        assert encode(data, tokenizer, prompts=False, max_length=32, cache=tmp_path).train.to_pylist() == rows, at


def test_two_that_write_the_same_do_not_disturb_each_other(tmp_path):
    def work(_):
        return encode(make_data(rows=200), make_tokenizer(), prompts=False, max_length=32, cache=tmp_path)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(16)))
    assert all(result.train == results[0].train for result in results)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".arrow", ".arrow"]


def test_a_failed_write_leaves_nothing_behind(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(Refusal) as refused:
        encode(make_data(), tokenizer, prompts=False, max_length=32, cache=tmp_path)
    assert str(refused.value) == f"{tmp_path}: can't be written (No space left on device); use another cache"
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_without_padding_is_refused(tmp_path):
    with pytest.raises(Refusal) as refused:
        encode(make_data(), make_tokenizer(pad=None), prompts=False, max_length=32, cache=tmp_path)
    assert str(refused.value) == "tokenizer: it has no padding token; take a model whose tokenizer has one"


@pytest.mark.parametrize(("prompts", "special"), [(False, 3), (True, 2)])
def test_a_length_without_room_for_text_is_refused(prompts, special, tokenizer, tmp_path):
    with pytest.raises(Refusal) as refused:
        encode(make_data(), tokenizer, prompts=prompts, max_length=special, cache=tmp_path)
    assert str(refused.value) == f"max_length: {special} leaves no room beside {special} special tokens"
    encode(make_data(), tokenizer, prompts=prompts, max_length=special + 1, cache=tmp_path)


@pytest.mark.parametrize(("name", "fixed"), [("cola", 5), ("rte", 9)])
@pytest.mark.parametrize("prompts", [False, True])
def test_what_is_cut_is_counted_and_what_just_fits_is_not(tokenizer, tmp_path, name, fixed, prompts):
    data = make_data(name, rows=8)
    lengths = [
        len(ids) for ids in words_and_ids(data, tokenizer, 99, tmp_path, prompts=prompts)["input_ids"].to_pylist()
    ]
    for most in sorted(set(lengths)):
        for _ in ("made", "read again"):
            table = words_and_ids(data, tokenizer, most, tmp_path, prompts=prompts)
            assert cut_examples(table) == sum(length > most for length in lengths)
    assert prompts or min(lengths) == fixed


def words_and_ids(data, tokenizer, most, cache, *, prompts):
    return encode(data, tokenizer, prompts=prompts, max_length=most, cache=cache).train


def test_a_prompt_that_a_decoder_continues_is_counted_without_its_end(tokenizer):
    tokenizer.eos_token = "[SEP]"
    examples = make_data("cola", rows=8).train
    whole, short = (
        Tokenization(TASKS["cola"], tokenizer, prompts=True, max_length=most, decoder=True).table(examples)
        for most in (99, 9)
    )
    longer = [len(ids) + 1 > 9 for ids in whole["input_ids"].to_pylist()]
    assert (cut_examples(whole), cut_examples(short)) == (0, sum(longer))
    assert 0 < sum(longer) < len(longer)
