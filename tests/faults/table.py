"""Prints the table of `docs/reliability.md`: `python -m tests.faults.table faults.xml`, where faults.xml comes from
`pytest tests/faults -o junit_family=xunit1 --junitxml=faults.xml`.

A test that passes has found every trial once in each record, so no trial was lost or doubled.
"""

import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from xml.etree import ElementTree


def rows(xml: Path) -> list[str]:
    """Returns a line per fault: times tried, trials lost, trials doubled, median seconds until recovery."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for case in ElementTree.parse(xml).iter("testcase"):
        for kept in case.iter("property"):
            assert case.find("failure") is None, f"{case.attrib['name']} failed: nothing is known of its trials"
            seconds[kept.attrib["name"].removeprefix("fault: ")].append(float(kept.attrib["value"]))
    return [
        f"| {fault} | {len(taken)} | 0 | 0 | {'at once' if max(taken) == 0 else f'{median(taken):.0f}'} |"
        for fault, taken in seconds.items()
    ]


if __name__ == "__main__":
    print("\n".join(rows(Path(sys.argv[1]))))
