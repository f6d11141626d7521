"""What stands in a study's way: all of it at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from krona_tune.refusal import Refusal


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found: `problems` no trial could survive, `warnings` some might not."""

    problems: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(problems=self.problems + other.problems, warnings=self.warnings + other.warnings)

    def refuse(self) -> None:
        """Raises all problems as one Refusal, where there are any."""
        if self.problems:
            raise together(self.problems)


def together(problems: Sequence[Refusal]) -> Refusal:
    """One problem as it is; several as one refusal with a line for each."""
    if len(problems) == 1:
        return problems[0]
    return Refusal("", f"{len(problems)} things stand in the way:" + "".join(f"\n  {each}" for each in problems))


def problem(place: str, what: str, mend: str) -> Findings:
    """One problem."""
    return Findings(problems=(Refusal(place, what, mend),))
