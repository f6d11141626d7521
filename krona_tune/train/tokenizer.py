"""Opens a backbone's tokenizer, and gives a task's label words as its ids."""

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from krona_tune.data.tasks import TASKS, Task
from krona_tune.refusal import Refusal, refusing, shown
from krona_tune.train.backbone import quiet


def open_tokenizer(location: str, vocabulary: int) -> PreTrainedTokenizerBase:
    """Returns the tokenizer of a hub name or folder.

    One without a padding token that the model knows pads with its end of sequence.

    Raises:
        Refusal: there is none, it fails at a first text, or its ids do not fit into the model's `vocabulary`.
    """
    with quiet(), refusing(location, "its config.json can't be read", "save the model again"):
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
    with refusing("--model", f"{location} has no usable tokenizer", "save one there"):
        tokenizer = AutoTokenizer.from_pretrained(location, config=config, trust_remote_code=False)
        special = set(tokenizer.all_special_ids)
        known = tokenizer.pad_token_id is not None and tokenizer.pad_token_id < vocabulary
        if not known and tokenizer.eos_token_id is not None:
            tokenizer.pad_token = tokenizer.eos_token
        tried = tokenizer("a word", "another", truncation=True, max_length=8).input_ids
        words = set(tokenizer.get_vocab().values()) - special
        used = words | set(tried) | ({tokenizer.pad_token_id} - {None})
    if not words or max(used) >= vocabulary:
        problem = f"its tokenizer knows {len(words):,} words, to the id {max(used, default=0):,}"
        raise Refusal(
            "--model", f"{location}: {problem}, the model {vocabulary:,}", "save the model's own tokenizer there"
        )
    return tokenizer


def candidates(task: Task, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], ...]:
    """Returns the label words as token ids, each with its end of sequence.

    Raises:
        Refusal: the tokenizer reads two words of an own task alike.
    """
    found = tuple(tuple(tokenizer(word).input_ids) for word in task.candidates)
    first: dict[tuple[int, ...], str] = {}
    for word, ids in zip(task.candidates, found, strict=True):
        other = first.setdefault(ids, word)
        if other != word and task.name not in TASKS:
            problem = f"the model's tokenizer reads {shown(other)} and {shown(word)} alike"
            raise Refusal(f"tasks.{task.name}.words", problem, "give the labels other words")
    return found
