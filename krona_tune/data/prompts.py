"""Turns examples and targets into token ids that a model reads and learns to write, and such ids into text."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import starmap
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from krona_tune.data.batches import TARGET, lengths, target_lengths
from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal, refusing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


SHORTENED = 0.9
"""The most of a text that is kept when its example is too long, since its tokens are not all of one length."""
MARK = "target"
Texts = Sequence[str]
Ids = list[int]


class PromptWriter:
    """Writes prompts and targets for a task with `generation`.

    A decoder continues its prompt. Both are one text to its tokenizer, with a blank between them unless a line ends
    there; blanks at a prompt's end belong to the target, since they are the beginning of a word's token. The target
    ends with the end of sequence or, in a chat template, with the token that the template has after an answer.

    Args:
        decoder: the model continues its prompt; False: an encoder reads it.
        max_length: the most tokens of a prompt; if there are more, the longest text of the example is cut, and
            `cut_prompts` counts it.
    """

    def __init__(self, task: Task, tokenizer: "PreTrainedTokenizerBase", *, decoder: bool, max_length: int) -> None:
        self._task, self._tokenizer, self._decoder, self._max_length = task, tokenizer, decoder, max_length
        self._chats = in_chat_template(task, tokenizer)
        around: tuple[str, int | None] = "", tokenizer.eos_token_id
        self._before, self._end = around_answer(task, tokenizer) if self._chats else around
        self.cut_prompts = 0

    def written(self, examples: Sequence[Texts], targets: Texts) -> tuple[list[Ids], list[Ids]]:
        """Returns each example's prompt and target.

        Raises:
            Refusal: a prompt leaves no room for its texts, or nothing is left of it that a decoder could continue.
        """
        prompts = list(map(self._prompt, examples))
        found = self._read(prompts)
        for row, ids in enumerate(found):
            if len(ids) > self._max_length:
                self.cut_prompts += 1
                prompts[row] = self._cut(examples[row], len(ids))
                [found[row]] = self._read([prompts[row]])
        if self._decoder and [] in found:
            problem = f"the tokenizer leaves nothing of {prompts[found.index([])]!r}"
            raise Refusal(f"examples of {self._task.name}", problem, "take it out, or write a prompt around it")
        if not self._decoder:
            return found, list(self._tokenizer(text_target=list(targets)).input_ids)
        return found, self._continuing(prompts, found, targets)

    @property
    def identity(self) -> list[Any]:
        """Returns what decides about its ids beside the texts and the tokenizer's words."""
        sample = self._prompt(stand_ins(self._task))
        return [self._decoder, sample, self._end, self._tokenizer.eos_token_id, self._tokenizer.bos_token_id]

    def _prompt(self, texts: Texts) -> str:
        prompt = self._task.prompt(texts)
        if not self._chats:
            return prompt
        with _asking(self._task):
            return _asked(self._tokenizer, prompt) + self._before

    def _read(self, prompts: Texts) -> list[Ids]:
        """Returns the ids of prompts; those of a decoder without blanks at their end, and without an end."""
        texts = [prompt.rstrip(" ") if self._decoder else prompt for prompt in prompts]
        # a chat template has its own special tokens
        found = self._tokenizer(texts, add_special_tokens=not self._chats).input_ids
        return list(map(self._without_end, found))

    def _without_end(self, ids: Ids) -> Ids:
        ends = self._decoder and not self._chats and len(ids) > 1 and ids[-1] == self._tokenizer.eos_token_id
        return ids[:-1] if ends else ids

    def _continuing(self, prompts: Texts, read: Sequence[Ids], targets: Texts) -> list[Ids]:
        """Returns the ids of targets as they are after their prompts."""
        parts = [self._parts(prompt, target) for prompt, target in zip(prompts, targets, strict=True)]
        joint = self._read(list(starmap(str.__add__, parts)))
        alone = self._tokenizer([target for _, target in parts], add_special_tokens=False).input_ids
        end = [] if self._end is None else [self._end]
        return [
            (whole[len(ids) :] if whole[: len(ids)] == ids else by_itself) + end
            for whole, ids, by_itself in zip(joint, read, alone, strict=True)
        ]

    def _parts(self, prompt: str, target: str) -> tuple[str, str]:
        """Returns the prompt without blanks at its end, and the target with them, or with one."""
        bare = prompt.rstrip(" ")
        blanks = prompt[len(bare) :] or " " * (not self._chats and not bare[-1:].isspace())
        return bare, blanks + target.rstrip(" ")

    def _cut(self, texts: Texts, length: int) -> str:
        """Returns the prompt of texts whose longest is cut until at most `max_length` of `length` tokens are left."""
        found = cut_longest(texts, lambda some: len(self._read([self._prompt(some)])[0]), self._max_length, length)
        if found is None:
            problem = f"{self._max_length} tokens leave no room beside the prompt of {self._task.name}"
            raise Refusal("examples.max_length", problem, "raise it, or shorten the prompt")
        return self._prompt(found)


def cut_longest(texts: Texts, length_of: Callable[[Texts], int], most: int, length: int | None = None) -> Texts | None:
    """Returns texts of which the longest is cut at its end, again and again, until all have at most `most` tokens; None
    if nothing of it would be left.

    Args:
        length_of: returns the number of tokens of all texts together, with what is around them.
        length: that of these texts, if it is known.
    """
    length = length_of(texts) if length is None else length
    while length > most:
        at = max(range(len(texts)), key=lambda place: len(texts[place]))
        kept = int(len(texts[at]) * min(SHORTENED, most / length))
        if not kept:
            return None
        texts = [text[:kept] if place == at else text for place, text in enumerate(texts)]
        length = length_of(texts)
    return texts


def stand_ins(task: Task) -> list[str]:
    """Returns a text for each of the task's inputs, all different, which show where a prompt has them."""
    return [f"text {number}" for number in range(len(task.inputs))]


def in_chat_template(task: Task, tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Returns whether the task's prompts are messages in the tokenizer's chat template."""
    return bool(task.generation and task.generation.chat_template and tokenizer.chat_template)


def around_answer(task: Task, tokenizer: "PreTrainedTokenizerBase") -> tuple[str, int | None]:
    """Returns what the chat template writes between a prompt and an answer, and the token that ends an answer.

    Some models begin an answer with an empty chain of thought. The end is the template's first token after an answer if
    it is a special one, else the end of sequence. A template that changes its messages shows neither.
    """
    messages: list[dict[str, Any]] = [{"role": "user", "content": MARK}, {"role": "assistant", "content": MARK}]
    with _asking(task):
        whole, asked = _chat(tokenizer, messages), _asked(tokenizer, MARK)
    before, found, after = whole.removeprefix(asked).rpartition(MARK)
    if not whole.startswith(asked) or not found:
        return "", tokenizer.eos_token_id
    ids = tokenizer(after.strip(), add_special_tokens=False).input_ids
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return before, ids[0] if ids and ids[0] in special else tokenizer.eos_token_id


def stop_ids(task: Task, tokenizer: "PreTrainedTokenizerBase") -> Ids:
    """Returns the tokens that end an answer: the end of sequence, and what the chat template ends an answer with."""
    end = around_answer(task, tokenizer)[1] if in_chat_template(task, tokenizer) else None
    return sorted({end, tokenizer.eos_token_id} - {None})


def _asking(task: Task) -> Any:
    place, fix = f"tasks.{task.name}.chat_template", "write chat_template: false"
    return refusing(place, "the tokenizer's chat template does not take a user's message", fix)


def _asked(tokenizer: "PreTrainedTokenizerBase", prompt: str) -> str:
    """Returns a user's message in the chat template, up to where the model's answer begins."""
    return _chat(tokenizer, [{"role": "user", "content": prompt}], add_generation_prompt=True)


def _chat(tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], **how: bool) -> str:
    """Returns messages in the chat template, which takes `DAY` for today."""
    template = str(tokenizer.get_chat_template())
    own: Any = {"chat_template": ON_THAT_DAY + template} if TODAY in template else {}
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **own, **how))


DAY = datetime(2025, 1, 1)
"""What a chat template gets for the present, so that a study and `predict` read the same prompts on any day."""
TODAY = "strftime_now"
"""The function by which a template asks for it."""
CODES = (*"aAbBcdDeFfHIjmMpRSTuUVwWxXyYzZ", *(f"-{code}" for code in "dHIjmMSy"), "%")
ON_THAT_DAY = (
    f"{{% macro {TODAY}(format) %}}{{{{ format"
    + "".join(f"|replace('%{code}', '{DAY.strftime(f'%{code}')}')" for code in CODES)
    + " }}{% endmacro %}\n"
)
"""Goes before a template, which has its own function then: functions can't be given to it."""


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


def refuse_without_room(task: Task, table: pa.Table, part: str, positions: int | None, *, decoder: bool) -> None:
    """Refuses targets, with their prompts for a decoder, of more tokens than the model has positions for."""
    if task.generation is None or positions is None or not table.num_rows:
        return
    longest = int((lengths(table) if decoder else target_lengths(table)).max())
    if longest > positions:
        what = "prompt and target" if decoder else "target"
        problem = f"the longest {part} example has {longest} tokens of {what}, the model has room for {positions}"
        fix = "leave long examples out" + ", or lower examples.max_length" * decoder
        raise Refusal(f"tasks.{task.name}.target", problem, fix)


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
