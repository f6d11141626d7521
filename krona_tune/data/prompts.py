"""Turns the texts of examples and their targets into what a model reads and learns to write, as token ids."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from krona_tune.data.tasks import Task
from krona_tune.refusal import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHORTENED = 0.9
"""The most of a text that is kept when its example is too long, since its tokens are not all of one length."""
MARK = "target"
Texts = Sequence[str]
Ids = list[int]


class PromptWriter:
    """Writes prompts and targets for a task with `generation`.

    A decoder continues its prompt: a target begins with a blank if the prompt does not end with one, and ends with the
    end of sequence, or, in a chat template, with what the template writes there.

    Args:
        decoder: the model continues its prompt; False: an encoder reads it.
        max_length: the most tokens of a prompt; if there are more, the longest text of the example is cut.
    """

    def __init__(self, task: Task, tokenizer: "PreTrainedTokenizerBase", *, decoder: bool, max_length: int) -> None:
        self._task, self._tokenizer, self._decoder, self._max_length = task, tokenizer, decoder, max_length
        self._chats = in_chat_template(task, tokenizer)
        self._before, self._ending = around_answer(tokenizer) if self._chats else ("", "")

    def prompts(self, examples: Sequence[Texts]) -> list[Ids]:
        """Returns the prompt of each example's texts. Raises a Refusal if no room is left for them."""
        found = self._read([self._written(texts) for texts in examples])
        return [
            ids if len(ids) <= self._max_length else self._cut(texts, len(ids))
            for texts, ids in zip(examples, found, strict=True)
        ]

    def targets(self, examples: Sequence[Texts], targets: Texts) -> list[Ids]:
        """Returns what the model learns to write after the prompt of each example's texts, with its end."""
        if not self._decoder:
            return list(self._tokenizer(text_target=list(targets)).input_ids)
        whole = [f"{self._blank(texts)}{target}{self._ending}" for texts, target in zip(examples, targets, strict=True)]
        found = self._tokenizer(whole, add_special_tokens=False).input_ids
        end = self._tokenizer.eos_token_id
        return list(found) if self._ending or end is None else [[*ids, end] for ids in found]

    def _blank(self, texts: Texts) -> str:
        return "" if self._chats or self._task.prompt(texts)[-1:].isspace() else " "

    def _written(self, texts: Texts) -> str:
        prompt = self._task.prompt(texts)
        return _asked(self._tokenizer, prompt) + self._before if self._chats else prompt

    def _read(self, prompts: Texts) -> list[Ids]:
        """Returns the ids of prompts. A chat template has its own special tokens; a decoder's prompt does not end."""
        found = self._tokenizer(list(prompts), add_special_tokens=not self._chats).input_ids
        end = self._tokenizer.eos_token_id if self._decoder and not self._chats else None
        return [ids[:-1] if len(ids) > 1 and ids[-1] == end else ids for ids in found]

    def _cut(self, texts: Texts, length: int) -> Ids:
        """Returns the prompt of texts whose longest is cut until at most `max_length` of `length` tokens are left."""
        while length > self._max_length:
            longest = max(texts, key=len)
            kept = int(len(longest) * min(SHORTENED, self._max_length / length))
            if not kept:
                problem = f"{self._max_length} tokens leave no room beside the prompt of {self._task.name}"
                raise Refusal("examples.max_length", problem, "write more, or a shorter prompt")
            texts = [text[:kept] if text is longest else text for text in texts]
            [ids] = self._read([self._written(texts)])
            length = len(ids)
        return ids


def in_chat_template(task: Task, tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Returns whether the task's prompts are messages in the tokenizer's chat template."""
    return bool(task.generation and task.generation.chat_template and tokenizer.chat_template)


def around_answer(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, str]:
    """Returns what the chat template writes between a prompt and an answer, and after the answer.

    Some models begin an answer with an empty chain of thought; most end it with a token of their own. A template that
    changes its messages shows neither.
    """
    messages: list[dict[str, Any]] = [{"role": "user", "content": MARK}, {"role": "assistant", "content": MARK}]
    whole, asked = str(tokenizer.apply_chat_template(messages, tokenize=False)), _asked(tokenizer, MARK)
    before, found, after = whole.removeprefix(asked).rpartition(MARK)
    return (before, after.strip()) if whole.startswith(asked) and found else ("", "")


def stop_ids(task: Task, tokenizer: "PreTrainedTokenizerBase") -> Ids:
    """Returns the tokens that end an answer: the end of sequence, and what the chat template ends an answer with."""
    ending = around_answer(tokenizer)[1] if in_chat_template(task, tokenizer) else ""
    ids = tokenizer(ending, add_special_tokens=False).input_ids if ending else []
    return sorted({*ids[:1], tokenizer.eos_token_id} - {None})


def _asked(tokenizer: "PreTrainedTokenizerBase", prompt: str) -> str:
    """Returns a user's message in the chat template, up to where the model's answer begins."""
    messages = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
