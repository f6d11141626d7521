"""Examples as people write them, one a line. No torch."""

from collections.abc import Iterable, Sequence

from krona_tune.glue.tasks import Task
from krona_tune.refusal import Refusal


def examples_of(lines: Iterable[str], place: str, task: Task) -> list[tuple[str, ...]]:
    """Each line's texts, which a tab separates. Raises a Refusal that names the line with too many or too few."""
    rows = [tuple(line.split("\t")) for line in lines]
    for number, row in enumerate(rows, start=1):
        refuse_misshapen(row, task, f"{place}: line {number}")
    return rows


def refuse_misshapen(texts: Sequence[str], task: Task, place: str) -> None:
    """Refuses an example that has another number of texts than the task, or an empty one."""
    wanted = f"{task.title} takes {' and '.join(task.inputs)}"
    if not any(text.strip() for text in texts):
        raise Refusal(place, "it is empty", wanted)
    if len(texts) != len(task.inputs):
        problem = f"{len(texts)} text{'s' * (len(texts) != 1)} where {len(task.inputs)} belong"
        raise Refusal(place, problem, wanted + ", separated by a tab" * (len(task.inputs) > 1))
    if empty := [name for name, text in zip(task.inputs, texts, strict=True) if not text.strip()]:
        raise Refusal(place, f"{empty[0]} is empty", wanted)
