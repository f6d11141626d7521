"""A backbone's tokenizer, and a task's label words in its ids."""

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from krona_tune.glue.tasks import Task
from krona_tune.refusal import Refusal, refusing


def open_tokenizer(location: str, vocabulary: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub name or folder.

    Raises:
        Refusal: there is none, or it knows more words than the model's `vocabulary`.
    """
    with refusing("--model", f"{location} has no usable tokenizer", "save one there"):
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
        tokenizer("a word", "another", truncation=True, max_length=8)
    words = len(tokenizer) - len(tokenizer.all_special_ids)
    if not 0 < words <= vocabulary:
        problem = f"its tokenizer knows {words:,} words, the model {vocabulary:,}"
        raise Refusal("--model", f"{location}: {problem}", "save the model's own tokenizer there")
    return tokenizer


def candidates(task: Task, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], ...]:
    """The label words as token ids, each with its end of sequence."""
    return tuple(tuple(tokenizer(word).input_ids) for word in task.candidates)
