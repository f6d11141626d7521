"""Reads examples out of tables, and the words of a refusal."""

import pytest

from krona_tune.data.tasks import TASKS
from krona_tune.refusal import Refusal

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def examples_of(task, table):
    texts = zip(*(table[name].to_pylist() for name in task.inputs), strict=True)
    return list(zip(texts, table["label"].to_pylist(), strict=True))


def refusal_of(action, *given_to, **named):
    with pytest.raises(Refusal) as refused:
        action(*given_to, **named)
    return str(refused.value)
