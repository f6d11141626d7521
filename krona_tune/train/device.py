"""Chooses a process's device and precision, and measures its memory."""

import ctypes
import os
import re
import resource
import sys
from dataclasses import dataclass
from typing import Literal

import torch

from krona_tune.processor import prefers_bfloat16, this_processor
from krona_tune.study.request.study_spec import Precision, Quantize

_ACCELERATOR_ERRORS = (torch.AcceleratorError,) if hasattr(torch, "AcceleratorError") else ()
"""What torch raises from 2.8 on; before, it is a RuntimeError with such a message."""
ATTENTION = {"cpu": "eager", "cuda": "sdpa"}
"""The faster attention for training on short sequences: on CPUs the fused kernel's backward is slower."""


MALLOPT = {-3: 32 * 2**20, -1: 2**31 - 1}
"""M_MMAP_THRESHOLD at its maximum, M_TRIM_THRESHOLD without a limit (mallopt(3))."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device, the dtype of frozen weights and of products on it, and whether weights are kept in fewer bits."""

    kind: str
    dtype: torch.dtype
    quantize: Quantize | None = None

    @property
    def precision(self) -> Literal["bf16", "fp32"]:
        """Returns the dtype as a request writes it."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    @property
    def attention(self) -> str:
        return ATTENTION[self.kind]

    def autocast(self) -> torch.autocast:
        """Returns the context in which trained float32 tensors are used with low-precision activations."""
        return torch.autocast(self.kind, self.dtype, enabled=self.dtype != torch.float32)

    def peak_memory_bytes(self) -> int:
        """Returns the trial's peak on a GPU; on a CPU, the process's peak since its start."""
        if self.kind == "cuda":
            return torch.cuda.max_memory_allocated()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def start_measuring(self) -> None:
        if self.kind == "cuda":
            torch.cuda.reset_peak_memory_stats()


def this_device(precision: Precision, *, gpu: bool, quantize: Quantize | None = None) -> Device:
    """Returns the GPU that was given to this process, or the CPU; `auto` is bfloat16 if that is faster."""
    kind = "cuda" if gpu else "cpu"
    low = precision == "bf16" or (precision == "auto" and computes_bfloat16(kind))
    return Device(kind=kind, dtype=torch.bfloat16 if low else torch.float32, quantize=quantize)


def computes_bfloat16(kind: str) -> bool:
    """Returns whether this process's GPU ("cuda") or CPU is faster in bfloat16 than in float32."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    unit, tiles = torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()
    return prefers_bfloat16(unit=unit, tiles=tiles, intel=this_processor().is_intel)


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory, because the system clears returned memory page by page when it is needed again.

    A training step on a CPU frees and takes the same large blocks over and over. This does nothing on other systems, or
    if the environment sets when memory is returned.
    """
    if (
        sys.platform != "linux"
        or "MALLOC_TRIM_THRESHOLD_" in os.environ
        or not (mallopt := getattr(ctypes.CDLL(None), "mallopt", None))
    ):
        return
    for option, value in MALLOPT.items():
        mallopt(option, value)


def keep_to_share(share: float) -> None:
    """Lets this process take no more of its GPU's memory than its share, if that is below 1: evaluation, which can do
    with less, then finds its own share full, and not its neighbour's."""
    if share < 1:
        torch.cuda.set_per_process_memory_fraction(share)


LACKS_MEMORY = re.compile(
    r"can't allocate memory|could not create a primitive$|^CUDA error: out of memory|_STATUS_ALLOC_FAILED"
)
"""What a RuntimeError says that means full memory: of torch and oneDNN on a CPU, and of CUDA and its libraries, which
take memory of their own."""


def lacks_memory(error: BaseException) -> bool:
    """Returns whether an error says that the device or the machine has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(LACKS_MEMORY.search(str(error)))


def has_broken_device(error: BaseException) -> bool:
    """Returns whether an error leaves this process with a GPU that no later trial can use."""
    if lacks_memory(error):
        return False
    if isinstance(error, _ACCELERATOR_ERRORS):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith("CUDA error")
