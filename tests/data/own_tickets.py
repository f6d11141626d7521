"""Writes files of tickets, and makes them a task."""

from pathlib import Path
from typing import Any

import pytest

from krona_tune.data.corpus import OwnData
from krona_tune.data.own_data import load_own
from krona_tune.refusal import Refusal
from krona_tune.study.request.task_spec import TaskSpec

QUEUES = ["billing"] * 6 + ["hardware"] * 3 + ["access"]


def rows(count: int = 100) -> list[dict[str, Any]]:
    return [
        {"id": number, "body": f"text {number}", "queue": QUEUES[number % 10], "customer": f"c{number // 4}"}
        for number in range(count)
    ]


def write_csv(path: Path, some: list[dict[str, Any]], separator: str = ",") -> Path:
    lines = [separator.join(some[0]), *(separator.join(map(str, row.values())) for row in some)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def own(data: Path | str, **keys: Any) -> OwnData:
    spec = TaskSpec.model_validate({"data": str(data), "text": "body", "label": "queue", **keys})
    return load_own("tickets", spec.resolved_against(Path("/")), "tasks.tickets")


def refusal_of(data: Path | str, **keys: Any) -> str:
    with pytest.raises(Refusal) as refused:
        own(data, **keys)
    return str(refused.value).replace(f"{Path(data).parent}/", "")


def texts(data: OwnData, part: str) -> list[str]:
    found: list[str] = data.parts[part]["body"].to_pylist()
    return found


def labelled(path: Path, *labels: str, each: int = 80) -> Path:
    """Writes a file that has each label as often."""
    return write_csv(path, [{"body": f"text {n} {label[:9]}", "queue": label} for n in range(each) for label in labels])
