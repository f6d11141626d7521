"""Finds targets that a model's answers can never equal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from krona_tune.data.batches import TARGET, target_lengths
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

READ_BACK = 500
"""The targets of a part that are read back from their tokens."""


def refuse_long_targets(task: Task, table: pa.Table, part: str) -> None:
    """Refuses targets that no answer of at most `max_new_tokens` tokens can equal."""
    if task.generation is None or task.has_perplexity or not table.num_rows:
        return
    most, counts = task.generation.max_new_tokens, target_lengths(table)
    longest = int(counts.max())
    if longest > most:
        longer = int((counts > most).sum())
        at_least = "at least " * (longer == len(table))  # the table may have the longest targets alone
        problem = f"{most}, but {at_least}{longer:,} {part} targets are longer, the longest has {longest} tokens"
        raise Refusal(f"tasks.{task.name}.max_new_tokens", problem, f"write {longest}, or leave long examples out")


def changed_targets(task: Task, table: pa.Table, part: str, tokenizer: "PreTrainedTokenizerBase") -> Iterator[str]:
    """Yields a warning if the tokenizer changes targets, by its words or by what it does with blanks."""
    if task.generation is None or task.has_perplexity:
        return
    some = table.slice(0, READ_BACK)
    pairs = zip(some[TARGET].to_pylist(), some["label"].to_pylist(), strict=True)
    changed = [row for row, (ids, target) in enumerate(pairs) if text_of(ids, tokenizer) != target.strip()]
    if changed:
        counted = f"{len(changed)} of the first {len(some)} {part} targets of {task.title}"
        yield f"{counted} are not the same after the model's tokenizer, the first is number {changed[0] + 1}"


def text_of(ids: list[int], tokenizer: "PreTrainedTokenizerBase") -> str:
    """Returns the text of token ids, without special tokens and blanks around it."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()
