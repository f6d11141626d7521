"""Says how many tokens of a model's positions the answers to a task take, and refuses lengths that leave them none."""

from transformers import PreTrainedTokenizerBase

from krona_tune.data.tasks import TASKS, Task
from krona_tune.refusal import Refusal, shown
from krona_tune.search.planning.plan import Plan
from krona_tune.train.backbone import candidates, open_tokenizer


def answer_tokens(plan: Plan, task: Task, tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns the most tokens of an answer that a decoder reads after a prompt; 0 where a head answers, or an encoder
    reads the prompt."""
    if not plan.geometry.writes_alone:
        return 0
    if task.generation:
        return task.generation.max_new_tokens
    return max(map(len, candidates(task, tokenizer, decoder=True)))


def most_answer_tokens(plan: Plan) -> dict[str, int]:
    """Returns `answer_tokens` of each task; opens the tokenizer only where a decoder answers."""
    if not plan.geometry.writes_alone:
        return dict.fromkeys(plan.tasks, 0)
    tokenizer = open_tokenizer(plan.source.location, plan.geometry.vocabulary)
    return {name: answer_tokens(plan, task, tokenizer) for name, task in plan.tasks.items()}


def label_words(plan: Plan, task: Task, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], ...]:
    """Returns the words of a task's labels as token ids; none where no words answer.

    Raises:
        Refusal: the tokenizer reads two of them alike, or the model has no positions for the longest, after a prompt
            of `examples.max_length` tokens where a decoder reads both.
    """
    if task.generation or not plan.geometry.text_to_text:
        return ()
    decoder, positions = plan.geometry.writes_alone, plan.geometry.positions
    found = candidates(task, tokenizer, decoder=decoder)
    word, ids = max(zip(task.candidates, found, strict=True), key=lambda pair: len(pair[1]))
    read = plan.spec.examples.max_length if decoder else 0
    if positions is None or read + len(ids) <= positions:
        return found
    room = f"{plan.source.name} has room for {positions}"
    if read and len(ids) < positions:
        problem = f"{read} tokens before {len(ids)} of the answer {shown(word)} to {task.name}, {room}"
        raise Refusal("examples.max_length", problem, f"write {positions - len(ids)} or less")
    fix = "take a model that reads more" + ", or give the labels shorter words" * (task.name not in TASKS)
    raise Refusal(f"tasks.{task.name}.words", f"the answer {shown(word)} has {len(ids)} tokens, {room}", fix)
