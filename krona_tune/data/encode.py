"""Turns texts into token ids once, and keeps them in Arrow files that are named by a hash of what went into them."""

import hashlib
import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa

from krona_tune.atomic_write import atomic_path
from krona_tune.data.batches import TARGET
from krona_tune.data.corpus import TaskData
from krona_tune.data.prompts import PromptWriter, cut_longest, stand_ins
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TABLE_FORMAT = 5  # goes into the file names: raise it when the files' meaning changes
ROWS_PER_CALL = 1_000
UNCUT = 10**6
"""As many tokens as no example has."""
_CHECKSUM_BYTES = 4
CUT = b"cut examples"
"""The key of a table's metadata that counts its examples which were longer than `max_length` tokens."""
MORE = 2
"""Tokens more than `max_length` at which an example is read again, to see whether it was cut."""
_log = logging.getLogger(__name__)


class TokenizerSettings(TypedDict):
    """Says how a model reads examples, and which folder keeps their token ids.

    `prompts`: each example is one text, `task.prompt(texts)`, as T5 reads it; else a text or a pair of texts. Longer
    examples are cut to `max_length` tokens, the longest text first. `decoder`: the model continues its prompt.
    """

    prompts: bool
    max_length: int
    cache: Path
    decoder: NotRequired[bool]


@dataclass(frozen=True, kw_only=True)
class EncodedTask:
    """A task's train and validation parts as token ids.

    Columns: `input_ids` list<int32>, `token_type_ids` list<int8> if the tokenizer gives them, `label` (int64, float64
    for a regression); for a task with `generation` also `target_ids` list<int32>, and `label` is the target's text.
    `cut_examples` counts those of a table that were cut. `fingerprint` is the hash of data, tokenizer, max_length and
    what the tokenizer gets beside the texts: the inputs' names in a prompt, their order, and what surrounds a target.
    """

    train: pa.Table
    validation: pa.Table
    fingerprint: str
    pad_token_id: int


def encode(data: TaskData, tokenizer: "PreTrainedTokenizerBase", **settings: Unpack[TokenizerSettings]) -> EncodedTask:
    """Returns train and validation, memory-mapped, from the cache if they are in it.

    Raises a Refusal if the tokenizer has no padding token, `max_length` leaves no room, or `cache` can't be written.
    """
    work = _Encoding(data, tokenizer, **settings)
    return EncodedTask(
        train=work.part("train"),
        validation=work.part("validation"),
        fingerprint=work.fingerprint,
        pad_token_id=work.tokenization.pad_token_id,
    )


def encode_test(
    data: TaskData, tokenizer: "PreTrainedTokenizerBase", **settings: Unpack[TokenizerSettings]
) -> pa.Table:
    """Returns the test part on its own, for the final evaluation; otherwise as `encode`."""
    work = _Encoding(data, tokenizer, **settings)
    return work.part("test")


_ATTRIBUTES = ("split_special_tokens", "src_lang", "tgt_lang")
"""What decides a tokenizer's ids, but may stand in none of its files."""


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Returns the hash of what decides its ids, without the truncation and padding that its last call left in it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        state: dict[str, Any] = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
        state["special tokens"] = getattr(tokenizer, "special_tokens_map", {})
    else:
        state = {**json.loads(backend.to_str()), "truncation": None, "padding": None}
    state["inputs"] = list(tokenizer.model_input_names)
    state["truncation side"] = tokenizer.truncation_side
    settings = getattr(tokenizer, "init_kwargs", {})  # such as do_lower_case
    state["settings"] = {name: value for name, value in settings.items() if isinstance(value, bool | int)}
    state["attributes"] = [getattr(tokenizer, name, None) for name in _ATTRIBUTES]
    return _digest(state)


_FINGERPRINTS: "WeakKeyDictionary[PreTrainedTokenizerBase, str]" = WeakKeyDictionary()
"""The fingerprint of each tokenizer that encodes in this process, which nothing changes; a large one takes .1 s."""


def _fingerprint_of(tokenizer: "PreTrainedTokenizerBase") -> str:
    if tokenizer not in _FINGERPRINTS:
        _FINGERPRINTS[tokenizer] = tokenizer_fingerprint(tokenizer)
    return _FINGERPRINTS[tokenizer]


class Tokenization:
    """Turns the examples of a task into token ids.

    Args:
        prompts, max_length, decoder: as in `TokenizerSettings`.

    Raises:
        Refusal: the tokenizer has no padding token, or `max_length` leaves no room.
    """

    def __init__(
        self, task: Task, tokenizer: "PreTrainedTokenizerBase", *, prompts: bool, max_length: int, decoder: bool = False
    ) -> None:
        if tokenizer.pad_token_id is None:
            raise Refusal("tokenizer", "it has no padding token", "take a model whose tokenizer has one")
        special = tokenizer.num_special_tokens_to_add(pair=len(task.inputs) > 1 and not prompts)
        if max_length <= special:
            raise Refusal("max_length", f"{max_length} leaves no room beside {special} special tokens")
        self.pad_token_id = int(tokenizer.pad_token_id)
        self._task, self._tokenizer, self._prompts, self._max_length = task, tokenizer, prompts, max_length
        self._continued = prompts and decoder
        self._writer: PromptWriter | None = None
        if task.generation:
            self._writer = PromptWriter(task, tokenizer, decoder=decoder, max_length=max_length)

    @property
    def identity(self) -> list[Any]:
        """Returns what decides about its ids beside the examples."""
        known = [_fingerprint_of(self._tokenizer), self._prompts, self._max_length]
        if self._writer:
            return known + self._writer.identity
        return known + self._given([[text] for text in stand_ins(self._task)]) + ["continued"] * self._continued

    def table(self, examples: pa.Table) -> pa.Table:
        """Returns the columns that `EncodedTask` describes, of examples with the columns `*task.inputs` and `label`."""
        if self._writer:
            before = self._writer.cut_prompts
            table = token_table(self._writer, self._task, examples)
            return _counting(table, self._writer.cut_prompts - before)
        cut = 0
        types = {"input_ids": pa.list_(pa.int32()), "token_type_ids": pa.list_(pa.int8())}
        chunks: dict[str, list[pa.Array]] = {}
        for start in range(0, examples.num_rows, ROWS_PER_CALL):
            some = examples.slice(start, ROWS_PER_CALL)
            given = [some[name].to_pylist() for name in self._task.inputs]
            texts = self._given(given)
            ids = self._ids(texts, self._max_length)
            long = self._cut(texts, ids["input_ids"])
            cut += len(long)
            if long and len(texts) < len(given):
                ids = self._ids(self._given(self._shortened(given, long)), self._max_length)
            for name in types.keys() & ids.keys():
                chunks.setdefault(name, []).append(pa.array(ids[name], types[name]))
        columns = {name: pa.chunked_array(chunks[name]) for name in types if name in chunks}
        return _counting(pa.table({**columns, "label": examples["label"]}).combine_chunks(), cut)

    def _ids(self, texts: list[list[str]], most: int) -> Mapping[str, list[list[int]]]:
        """Returns the ids of texts, cut to `most` tokens, and what the tokenizer gives beside them."""
        ids = self._tokenizer(*texts, truncation=True, max_length=most, return_attention_mask=False, verbose=False)
        return {"input_ids": [self._without_end(row) for row in ids["input_ids"]]} if self._continued else ids

    def _shortened(self, columns: list[list[str]], rows: list[int]) -> list[list[str]]:
        """Returns the texts of examples whose several texts become one, in these rows with the longest text cut until
        all fits: the tokenizer, which gets one text, would cut the last."""
        found = [[*column] for column in columns]

        def length(texts: Sequence[str]) -> int:
            return len(self._ids(self._given([[text] for text in texts]), UNCUT)["input_ids"][0])

        for row in rows:
            texts = [column[row] for column in columns]
            short = cut_longest(texts, length, self._max_length - self._continued)
            for column, text in zip(found, short or texts, strict=True):
                column[row] = text
        return found

    def _cut(self, texts: list[list[str]], ids: list[list[int]]) -> list[int]:
        """Returns the rows that were cut: those as long as may be that have more tokens where more may be."""
        full = [row for row, each in enumerate(ids) if len(each) >= self._max_length - self._continued]
        if not full:
            return []
        again = self._ids([[each[row] for row in full] for each in texts], self._max_length + MORE)["input_ids"]
        return [row for row, longer in zip(full, again, strict=True) if len(longer) > len(ids[row])]

    def _without_end(self, ids: list[int]) -> list[int]:
        """Returns the ids of a prompt that a decoder continues, without an end of sequence."""
        return ids[:-1] if len(ids) > 1 and ids[-1] == self._tokenizer.eos_token_id else ids

    def _given(self, texts: list[list[str]]) -> list[list[str]]:
        return given_texts(self._task, self._tokenizer, texts, prompts=self._prompts)


def _counting(table: pa.Table, cut: int) -> pa.Table:
    return table.replace_schema_metadata({CUT: str(cut).encode()})


def vocabulary_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Returns the sha256 of a tokenizer's words in the order of their ids, and of these; the same in each version."""
    vocabulary = tokenizer.get_vocab()
    words = sorted(vocabulary, key=lambda word: (vocabulary[word], word))  # two may share an id
    digest = hashlib.sha256("\n".join(words).encode("utf-8", "surrogatepass"))
    digest.update(np.sort(np.fromiter(vocabulary.values(), "<i8", len(vocabulary))).tobytes())
    return digest.hexdigest()


SAMPLES = ("A word, and 2 more of them: that's all.", "An ÉCLAIR – naïve,  it was  said…", "x")
"""Texts whose ids show how a tokenizer splits texts, and what it puts around them."""


def splitting_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Returns the sha256 of the ids of a few texts and of a pair of them: of what the vocabulary does not tell."""
    ids = [list(tokenizer(text)["input_ids"]) for text in SAMPLES]
    ids.append(list(tokenizer(*SAMPLES[:2])["input_ids"]))
    return hashlib.sha256(str(ids).encode()).hexdigest()


def tokens_fingerprint(*tables: pa.Table) -> str:
    """Returns the sha256 of the token ids of encoded examples and of targets that are written, in their order."""
    columns = [table[name] for name in ("input_ids", TARGET) for table in tables if name in table.column_names]
    chunks = [chunk for column in columns for chunk in column.chunks]
    digest = hashlib.sha256()
    for numbers in (*(chunk.value_lengths() for chunk in chunks), *(chunk.flatten() for chunk in chunks)):
        digest.update(numbers.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    return digest.hexdigest()


def cut_examples(table: pa.Table) -> int:
    """Returns how many examples of an encoded table were longer than it allows."""
    return int((table.schema.metadata or {}).get(CUT, b"0"))


class _Encoding:
    """One data set with one tokenizer: the names of its files, and how each is read or made."""

    def __init__(
        self, data: TaskData, tokenizer: "PreTrainedTokenizerBase", **settings: Unpack[TokenizerSettings]
    ) -> None:
        self.data, self.cache = data, settings["cache"]
        self.tokenization = Tokenization(
            data.task,
            tokenizer,
            prompts=settings["prompts"],
            max_length=settings["max_length"],
            decoder=settings.get("decoder", False),
        )
        self.fingerprint = _digest([TABLE_FORMAT, data.task.name, data.fingerprint, *self.tokenization.identity])

    def part(self, name: str) -> pa.Table:
        path = self.cache / f"{self.data.task.name}-{name}-{self.fingerprint[:32]}.arrow"
        table = _read(path)
        if table is None:
            _write(path, self.tokenization.table(getattr(self.data, name)))
            table = _read(path)
        if table is None:
            raise Refusal(str(path), "it can't be read back after it was written", "free space, or use another cache")
        return table


def token_table(writer: PromptWriter, task: Task, examples: pa.Table) -> pa.Table:
    """Returns examples of a task with `generation` as token ids: prompts and targets."""
    chunks: dict[str, list[pa.Array]] = {"input_ids": [], TARGET: []}
    for start in range(0, max(1, examples.num_rows), ROWS_PER_CALL):
        some = examples.slice(start, ROWS_PER_CALL)
        rows = list(zip(*(some[name].to_pylist() for name in task.inputs), strict=True))
        for column, ids in zip(chunks.values(), writer.written(rows, some["label"].to_pylist()), strict=True):
            column.append(pa.array(ids, pa.list_(pa.int32())))
    columns = {name: pa.chunked_array(arrays) for name, arrays in chunks.items()}
    return pa.table({**columns, "label": examples["label"]}).combine_chunks()


def given_texts(
    task: Task, tokenizer: "PreTrainedTokenizerBase", texts: list[list[str]], *, prompts: bool
) -> list[list[str]]:
    """Returns what the tokenizer gets of examples: prompts, or the texts of `task.inputs`, a list for each.

    Two texts become one, with a line break between them, for a tokenizer that puts nothing there, as many decoders'.
    """
    rows = zip(*texts, strict=True)
    if prompts:
        return [[task.prompt(row) for row in rows]]
    return [["\n".join(row) for row in rows]] if len(texts) > 1 and joins_texts(tokenizer) else texts


def joins_texts(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Returns whether two texts become one, because the tokenizer puts nothing between them."""
    alone, paired = (int(tokenizer.num_special_tokens_to_add(pair=pair)) for pair in (False, True))
    return alone == paired


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> pa.Table | None:
    """Returns the table at `path`, memory-mapped; None if there is none, or if it was damaged and is now renamed.

    The file is an Arrow stream and then the checksum of its bytes. The checksum is verified first, because Arrow may
    crash the process on a damaged stream.
    """
    try:
        with pa.memory_map(str(path)) as file:
            content = file.read_buffer()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise Refusal(str(path), "it belongs to someone else", "use another cache") from error
    except (pa.ArrowException, OSError):  # an empty file can't be mapped
        content = pa.py_buffer(b"")
    stream = content.slice(0, max(0, content.size - _CHECKSUM_BYTES))
    if content.size > _CHECKSUM_BYTES and _checksum(stream) == content.slice(stream.size).to_pybytes():
        return pa.ipc.open_stream(stream).read_all()
    _log.warning("%s is damaged: renamed to *.corrupt and made again", path)
    with suppress(FileNotFoundError):  # another process has just renamed it
        path.replace(path.with_suffix(".corrupt"))
    return None


def _checksum(stream: pa.Buffer) -> bytes:
    return zlib.crc32(stream).to_bytes(_CHECKSUM_BYTES, "little")


def _write(path: Path, table: pa.Table) -> None:
    """Writes the whole file or nothing, even if another process writes the same file."""
    output = pa.BufferOutputStream()
    with pa.ipc.new_stream(output, table.schema) as writer:
        writer.write_table(table)
    stream = output.getvalue()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, lasting=False) as temporary, temporary.open("wb") as file:
            file.write(stream)
            file.write(_checksum(stream))
    except OSError as error:
        raise Refusal(str(path.parent), f"can't be written ({error.strerror or error})", "use another cache") from error
