"""Reads pages as a browser does, and writes studies of known scores for them."""

from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.study.folder import StudyFolder
from tests.record.events import manifest
from tests.study.final_rows import row

LOADS = {"src", "href", "srcset", "data", "poster", "action"}


VOID = {"meta", "link", "br", "img", "hr", "input"}


@dataclass
class Page(HTMLParser):
    """The page's elements, its visible text, and whether tags are closed in the right order."""

    loads: list[str] = field(default_factory=list)
    tags: Counter[str] = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    attributes: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append((tag, dict(attrs)))
        self.loads += [value or "" for name, value in attrs if name in LOADS]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and not {"script", "style", "template"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def write_scores(folder: StudyFolder, scores: dict[str, float], **alone: dict[str, object]) -> None:
    """Writes a study whose tasks have a trial with this score, and a head that is one tenth worse; `alone` changes the
    facts of tasks."""
    made = manifest(*scores)
    facts = {task: facts.model_copy(update=alone.get(task)) for task, facts in made.tasks.items()}
    folder.root.mkdir(exist_ok=True)
    made.model_copy(update={"tasks": facts}).write(folder.manifest)
    sink = ParquetSink(folder.results)
    for task, score in scores.items():
        sink.trial_ended(row("000", "search", score, task=task))
        sink.trial_ended(row("head-0", "baseline", score - 0.1, task=task, params={"method": "head_only"}))


def page_of(html: str) -> Page:
    page = Page()
    page.feed(html)
    assert page.open == []
    return page


BY_LOSS: dict[str, object] = {"compared_by_loss": True}


NEGATED: dict[str, object] = {"averages": False}
