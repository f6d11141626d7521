"""Finds the status of a failed trial, and describes the error for its row."""

import re
import traceback
from pathlib import Path

import torch

from krona_tune.study.result import Status
from krona_tune.train.loop import Diverged

LACKS_MEMORY = re.compile(r"can't allocate memory|could not create a primitive$")
"""What torch and oneDNN say if the CPU has no memory left."""


def status_of_error(error: BaseException) -> Status:
    """Returns the status that an error gives a trial."""
    match error:
        case Diverged():
            return Status.DIVERGED
        case torch.OutOfMemoryError() | MemoryError():
            return Status.OUT_OF_MEMORY
        case RuntimeError() if LACKS_MEMORY.search(str(error)):
            return Status.OUT_OF_MEMORY
        case _:
            return Status.FAILED


def describe(error: BaseException) -> str:
    """Returns the error's type, message and notes, and its last three stack frames, innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    path = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    said = "; ".join([str(error), *getattr(error, "__notes__", [])])
    return f"{type(error).__name__}: {said} ({path})"
