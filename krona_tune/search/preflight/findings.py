"""What stands in a study's way: all of it at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from krona_tune.refusal import Refusal
from krona_tune.train.probe import Probe


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found: `problems` no trial could survive, `warnings` some might not, and what a step costs, if timed."""

    problems: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    probe: Probe | None = None

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            problems=self.problems + other.problems,
            warnings=self.warnings + other.warnings,
            probe=self.probe or other.probe,
        )

    def refuse(self) -> None:
        """Raises all problems as one Refusal, where there are any."""
        if self.problems:
            raise together(self.problems)


def together(problems: Sequence[Refusal]) -> Refusal:
    """One problem as it is; several as one refusal with a line for each."""
    if len(problems) == 1:
        return problems[0]
    return Refusal("", f"{len(problems)} things stand in the way:" + "".join(f"\n  {each}" for each in problems))


def problem(place: str, what: str, fix: str) -> Findings:
    """One problem."""
    return Findings(problems=(Refusal(place, what, fix),))
