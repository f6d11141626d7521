"""Writes a comparison of studies as a frame, as CSV and as LaTeX."""

from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from krona_tune.report.comparison import COMPARED_NOTE, ComparedStudy, ComparedWinner, Comparison
from krona_tune.study.formatting import format_count, format_deviation, format_score

COLUMNS = (
    "task", "study", "winner", "half", "score", "deviation", "low", "high", "seeds", "head_only", "constant",
    "parameters", "synthetic", "reference", "difference", "difference_low", "difference_high", "apart", "pairing",
    "verdict",
)  # fmt: skip
"""The columns of the frame before the winners' knobs."""
LATEX_SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "≈": r"$\approx$", "±": r"$\pm$",
}  # fmt: skip
APART, NOT_TESTED = "*", "v"
STARS = "A star marks what is told apart from that study; what has none can't be told apart, or is not compared."


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """Returns one row per task and study; `krona_tune.compare` describes the columns."""
    rows = [_row(each.task, entry) for each in comparison.tasks for entry in each.entries]
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)])))
    known = {name: [row[name] for row in rows if row.get(name) is not None] for name in map(str, frame)}
    whole = [name for name, values in known.items() if values and all(type(value) is int for value in values)]
    return frame.astype(dict.fromkeys(whole, "Int64"))  # a number that a row lacks makes no fraction of the others


def _row(task: str, entry: ComparedWinner) -> dict[str, object]:
    score, head, row = entry.score, entry.head_only, entry.row
    low, high = (score.interval if score else None) or (None, None)
    difference_low, difference_high = entry.gain_interval or (None, None)
    known = {
        "task": task,
        "study": entry.study.name,
        "winner": (row.of or row.trial_id) if row else None,
        "half": entry.half,
        "score": score.mean if score else None,
        "deviation": score.deviation if score else None,
        "low": low,
        "high": high,
        "seeds": (len(entry.winner.learned) if entry.winner else 1) if row else 0,
        "head_only": head.mean if head else None,
        "constant": entry.summary.constant_score,
        "parameters": row.trainable_parameters if row else None,
        "synthetic": entry.summary.synthetic,
        "reference": entry.reference or None,
        "difference": entry.gain,
        "difference_low": difference_low,
        "difference_high": difference_high,
        "apart": entry.difference.apart if entry.difference else None,
        "pairing": entry.pairing or None,
        "verdict": entry.verdict or None,
    }
    return {**(row.params if row else {}), **known}


def comparison_csv(comparison: Comparison) -> str:
    """Returns the frame as CSV."""
    return comparison_frame(comparison).to_csv(index=False)


def comparison_latex(comparison: Comparison) -> str:
    """Returns a table of LaTeX (booktabs): a row a study, a column a task, and the average over the common tasks.

    A star marks a winner that is told apart from the first study's; `v` a validation score, for want of finals.
    """
    tasks, common = comparison.tasks, comparison.common if len(comparison.common) > 1 else []
    head = ["Study", "Parameters", *(each.title for each in tasks), *(["Average"] if common else [])]
    entries = {(each.task, entry.study.name): entry for each in tasks for entry in each.entries}
    lines = [
        [
            _escaped(study.name),
            _parameters(study),
            *(_cell(entries.get((each.task, study.name))) for each in tasks),
            *([_average(study, common)] if common else []),
        ]
        for study in comparison.studies
    ]
    body = "\n".join(" & ".join(cells) + r" \\" for cells in lines)
    synthetic = "Synthetic data: these numbers can't be compared with others. " if comparison.synthetic else ""
    note = _escaped(" ".join(f"{synthetic}{COMPARED_NOTE} {STARS} {' '.join(comparison.doubts)}".split()))
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{note}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            " & ".join(map(_escaped, head)) + r" \\",
            r"\midrule",
            body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _cell(entry: ComparedWinner | None) -> str:
    if entry is None or entry.score is None:
        return "--"
    spread = "" if entry.score.deviation is None else rf"{{\scriptsize $\pm$ {format_deviation(entry.score)}}}"
    mark = APART if entry.difference and entry.difference.apart else ""
    mark += NOT_TESTED if entry.half == "validation" else ""
    raised = rf"\textsuperscript{{{mark}}}" if mark else ""
    return " ".join(filter(None, (format_score(entry.score.mean) + raised, spread)))


def _average(study: ComparedStudy, common: Sequence[str]) -> str:
    """Returns the mean on test over the common tasks, else that on validation, marked."""
    if final := study.final_average(common):
        return format_score(final.test)
    best = study.average(common)
    return rf"{format_score(best.best)}\textsuperscript{{{NOT_TESTED}}}" if best else "--"


def _parameters(study: ComparedStudy) -> str:
    """Returns the mean over tasks of the winners' trainable parameters."""
    sizes = [each.winner.trainable_parameters for each in study.tasks.values() if each.winner]
    return format_count(fmean(sizes)) if sizes else "--"


def _escaped(text: str) -> str:
    return "".join(LATEX_SIGNS.get(sign, sign) for sign in text)
