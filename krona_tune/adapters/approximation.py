"""Says how near what an export writes comes to its adapter, if it is not the same, and what that costs. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from krona_tune.study.formatting import format_answer


@dataclass(frozen=True, kw_only=True)
class Approximation:
    """Says how near a LoRA of a `rank` comes to an adapter: the share of its squared norm that is kept, and the
    validation scores `before` and `after`; None if they could not be measured. `fitted` is the score after a fit to
    what the adapter computes on training `texts`; on others the two were `apart` before and after it."""

    rank: int
    kept: float
    before: float | None = None
    after: float | None = None
    fitted: float | None = None
    texts: int = 0
    apart: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """Writes the rank, the share of the norm and both scores as a sentence for people."""
        if self.apart:
            return (
                f"A LoRA of rank {self.rank}, fitted to what the adapter computes on {self.texts:,} training texts: "
                f"on others it is {self.apart[1]:.3g} apart from it, and the nearest LoRA, which keeps {self.kept:.1%} "
                f"of its squared norm, {self.apart[0]:.3g}. The validation score is {_told(self.fitted)}, that of the "
                f"nearest LoRA {_told(self.after)}, the adapter's {_told(self.before)}, all in float32."
            )
        norm = f"The nearest LoRA of rank {self.rank}: it keeps {self.kept:.1%} of the adapter's squared norm"
        if self.before is None or self.after is None:
            return f"{norm}; what that costs on validation was not measured."
        after, before = format_answer(self.after), format_answer(self.before)
        return f"{norm}; its validation score is {after}, the adapter's {before}, both in float32."


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """Says what int8 weights cost: the largest `difference` of a logit, and the validation scores `before` and `after`,
    None if they could not be measured. Says too what they save: the graph's bytes, and the milliseconds of a batch by
    its size, with inputs of `tokens` tokens; each in float32 and in int8.
    """

    difference: float
    file_bytes: tuple[int, int]
    milliseconds: Mapping[int, tuple[float, float]]
    tokens: int
    before: float | None = None
    after: float | None = None

    @property
    def text(self) -> str:
        """Writes what it costs and saves as sentences for people."""
        times = [f"{int8:.1f} ms instead of {whole:.1f}" for whole, int8 in self.milliseconds.values()]
        sizes = " and ".join(f"{time} for a batch of {n}" for n, time in zip(self.milliseconds, times, strict=True))
        before, after = (size / 1e6 for size in self.file_bytes)
        return (
            f"{_cost('int8', self)} The graph has {after:.1f} MB instead of {before:.1f}, and where it was written it "
            f"takes {sizes}, of {self.tokens} tokens each."
        )


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """Says what weights in a `dtype` cost: the largest `difference` of a logit, and the validation scores `before` and
    `after`, None if they could not be measured."""

    dtype: str
    difference: float
    before: float | None = None
    after: float | None = None

    @property
    def text(self) -> str:
        """Writes what it costs as a sentence for people."""
        return _cost(self.dtype, self)


Nearness = Approximation | Quantisation | Rounding
"""Says how near an export comes to its adapter."""


def _cost(dtype: str, of: Quantisation | Rounding) -> str:
    moved = f"Its weights are {dtype}, which moves a logit by at most {of.difference:.2g} on inputs drawn by chance"
    if of.before is None or of.after is None:
        return f"{moved}; what that costs on validation was not measured."
    return f"{moved}; its validation score is {format_answer(of.after)}, in float32 {format_answer(of.before)}."


def _told(score: float | None) -> str:
    return "not measured" if score is None else format_answer(score)
