"""Reads what this machine's processor is, whether it computes faster in bfloat16, and on how many threads it shall."""

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CPUINFO, STATE = Path("/proc/cpuinfo"), Path("/proc/self/stat")
FLAGS, FORKED = 6, 0x40
"""The place of a process's flags among the words after its name in that file of Linux, and the flag of a process that
was forked and has started no program since."""
INTEL, UNIT, TILES = "GenuineIntel", "avx512_bf16", "amx_tile"
MATTER = ("avx2", "avx512f", "avx512_vnni", UNIT, TILES, "amx_bf16", "asimd", "bf16", "sve")
"""The instruction sets that decide how fast a trial is, as Linux names them: of x86 processors, then of ARM's."""


@dataclass(frozen=True, kw_only=True)
class Processor:
    """A processor's name, its maker and its instruction sets; empty where the system does not tell."""

    name: str
    maker: str
    flags: frozenset[str]

    @property
    def is_intel(self) -> bool:
        return INTEL in self.maker

    @property
    def instructions(self) -> tuple[str, ...]:
        """Returns the instruction sets that matter, in their usual order."""
        return tuple(each for each in MATTER if each in self.flags)

    @property
    def prefers_bfloat16(self) -> bool:
        """Returns whether `precision: auto` is bfloat16 on this processor."""
        return prefers_bfloat16(unit=UNIT in self.flags, tiles=TILES in self.flags, intel=self.is_intel)


def prefers_bfloat16(*, unit: bool, tiles: bool, intel: bool) -> bool:
    """Returns whether products in bfloat16 are faster than in float32.

    Without tiles (AMX), as in many virtual machines, an Intel processor takes twice as long for them.
    """
    return unit and (tiles or not intel)


def this_processor() -> Processor:
    """Returns this machine's processor, by the first one that Linux lists."""
    try:
        first = CPUINFO.read_text(encoding="utf-8").partition("\n\n")[0]
    except (OSError, UnicodeDecodeError):
        first = ""
    facts = dict(re.findall(r"^([^\t:]+?)\s*:\s*(.*)$", first, flags=re.MULTILINE))
    return Processor(
        name=facts.get("model name") or platform.processor() or platform.machine(),
        maker=facts.get("vendor_id") or platform.processor(),
        flags=frozenset((facts.get("flags") or facts.get("Features") or "").split()),
    )


def was_forked() -> bool:
    """Returns whether this process goes on with what another one had loaded: if that has computed with torch, waiting
    for its threads, which are not here, takes for ever (GNU OpenMP), and one thread alone computes."""
    with suppress(OSError, ValueError, IndexError):
        return bool(int(STATE.read_text(encoding="utf-8").rpartition(")")[2].split()[FLAGS]) & FORKED)
    return False


@contextmanager
def torch_threads(number: int | None = None) -> Iterator[None]:
    """Lets torch compute on so many threads in the context, or on as many as it does, on one in a forked process; for
    tiny tensors one is best, more wait for each other."""
    import torch  # most that ask for the processor compute nothing

    before = torch.get_num_threads()
    torch.set_num_threads(1 if was_forked() else number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
