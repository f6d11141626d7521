"""Names the case in which one test over many cases failed."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(*words: object) -> Iterator[None]:
    """Adds the words to whatever is raised inside, for cases that share what is dear to set up."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the case {', '.join(map(str, words))}")
        raise
