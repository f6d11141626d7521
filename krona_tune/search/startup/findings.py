"""Collects the problems and warnings of a study, to report them all at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from krona_tune.refusal import Refusal
from krona_tune.study.request.study_spec import Precision
from krona_tune.train.probe import Probe


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The findings: `problems` that fail every trial, `warnings` that may fail some, a step's cost, if timed, and
    what the first batch computed in."""

    problems: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    probe: Probe | None = None
    computes_in: Precision | None = None

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            problems=self.problems + other.problems,
            warnings=self.warnings + other.warnings,
            probe=self.probe or other.probe,
            computes_in=self.computes_in or other.computes_in,
        )

    def refuse(self) -> None:
        """Raises all problems as one Refusal, if there are any."""
        if self.problems:
            raise together(self.problems)


def together(problems: Sequence[Refusal]) -> Refusal:
    """Returns a single problem as it is, and several as one Refusal with a line for each."""
    if len(problems) == 1:
        return problems[0]
    return Refusal("", f"{len(problems)} problems:" + "".join(f"\n  {each}" for each in problems))


def problem(place: str, what: str, fix: str) -> Findings:
    """Returns findings with one problem."""
    return Findings(problems=(Refusal(place, what, fix),))
