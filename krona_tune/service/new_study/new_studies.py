"""Begins studies as the form asks: lists what it offers, refuses all else, and gives the study a place in the queue."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from krona_tune.api.folders import refuse_odd
from krona_tune.api.shipped_spaces import question, space_file, space_names, space_text
from krona_tune.data.corpus import MINI
from krona_tune.data.example_files import column_names
from krona_tune.data.file_task import described_task
from krona_tune.data.tasks import GLUE, TASKS
from krona_tune.refusal import Refusal, refuse_unknown
from krona_tune.service.new_study.data_roots import DataRoots
from krona_tune.service.new_study.study_form import (
    FIELDS,
    LABELS,
    NUMBERS,
    DataKind,
    NewStudy,
    Offer,
    OfferedChoice,
    OfferedData,
    at_its_field,
    values_of,
)
from krona_tune.service.queue.entry import Submission, SubmissionAnswer
from krona_tune.service.queue.sent_study import submission_of
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.study.request.deploy_target import WORDS
from krona_tune.study.request.given_values import GivenValue, given_by
from krona_tune.study.settings import SETTINGS
from krona_tune.train.backbone_source import PACKAGED

MOST_SENT = 1_000
"""How many forms are remembered, so that one that comes again begins no second study."""
OF_DATA = {"data", "tasks"}
"""The fields of which each kind of data makes its settings; another field of a setting's name is that setting."""


class NotOfferedError(Refusal):
    """Refuses to begin a study where none can be begun."""


class NewStudies:
    """Begins studies of what lies below the roots. Every method may be called from any thread.

    Args:
        roots: the folders with data and models.
        queue: runs what is begun.
    """

    def __init__(self, roots: DataRoots, queue: StudyQueue) -> None:
        self._roots, self._queue = roots, queue
        self._sent: dict[str, tuple[NewStudy, str, SubmissionAnswer]] = {}

    def offer(self) -> Offer:
        """Returns what the form offers now."""
        found, title = self._roots.find(), self._roots.title
        glue = [
            OfferedData(value=str(folder), words=title(folder), kind="glue", tasks=tasks)
            for folder, tasks in found.glue.items()
        ]
        files = [OfferedData(value=str(path), words=title(path), kind="file") for path in found.files]
        packaged = [OfferedChoice(value=name, words=name) for name, held in PACKAGED.items() if find_spec(held.module)]
        return Offer(
            data=[OfferedData(value=MINI, words="mini-GLUE (synthetic)", kind="mini", tasks=GLUE), *glue, *files],
            tasks=[OfferedChoice(value=name, words=task.title) for name, task in TASKS.items()],
            model=[*packaged, *(OfferedChoice(value=str(each), words=title(each)) for each in found.models)],
            space=[OfferedChoice(value=each, words=f"{each}: {question(space_text(each))}") for each in space_names()],
            answers=[OfferedChoice(value=LABELS, words="labels"), OfferedChoice(value=NUMBERS, words="numbers")],
            deploy=[OfferedChoice(value=each, words=each) for each in WORDS],
            left_out=found.left_out,
        )

    def columns(self, file: str) -> list[str]:
        """Returns the names of a data file's columns. Raises a Refusal if the file is not offered, or has none."""
        files = [each.value for each in self.offer().data if each.kind == "file"]
        refuse_unknown("data", "data file", files, file)
        return column_names(Path(file))

    def plan(self, asked: NewStudy) -> str:
        """Returns the plan as `run --dry-run` prints it. Raises a Refusal whose place is a field's name."""
        with _naming_fields(asked):
            return self._queue.plan(self._submission(asked))

    def begin(self, asked: NewStudy, person: str) -> SubmissionAnswer:
        """Gives the study a place in the queue; what is sent again has the place that it had.

        Raises:
            Refusal: the request is wrong, its name is taken, or its id was sent with something else. Its place is a
                field's name.
        """
        before, by, answer = self._sent.get(asked.id, (None, "", None))
        if answer:
            if (before, by) == (asked, person):
                return answer
            raise Refusal("id", f"this form began the study {answer.entry and answer.entry.name!r}", "open a new form")
        with _naming_fields(asked):
            made = self._queue.submit(self._submission(asked), person)
        if asked.id:
            self._sent[asked.id] = asked, person, made
            for old in list(self._sent)[:-MOST_SENT]:
                self._sent.pop(old, None)
        return made

    def _submission(self, asked: NewStudy) -> Submission:
        """Returns what `krona-tune submit` sends for the same. Raises a Refusal if something was not offered."""
        refuse_odd(asked.name)
        offer = self.offer()
        for name, row in FIELDS.items():
            if row.control == "choice" and ((chosen := getattr(asked, name)) or not row.empty):
                refuse_unknown(name, name, values_of(getattr(offer, name)), chosen)
        data = next(each for each in offer.data if each.value == asked.data)
        _refuse_of_others(asked, data.kind)
        given = [*(_own(asked) if data.kind == "file" else _of_glue(asked, data)), *_settings(asked)]
        space = space_file(asked.space, "space") if asked.space else None
        return submission_of(asked.name, space, given, priority=asked.priority)


@contextmanager
def _naming_fields(asked: NewStudy) -> Iterator[None]:
    """Gives refusals the name of the field that they are about."""
    try:
        yield
    except Refusal as refusal:
        raise at_its_field(refusal, asked) from None


def _refuse_of_others(asked: NewStudy, kind: DataKind) -> None:
    """Refuses what was filled in of fields that are about other kinds of data."""
    for name, row in FIELDS.items():
        if kind not in row.kinds and getattr(asked, name) != NewStudy.model_fields[name].default:
            raise Refusal(name, f"{row.words.lower()} is not about these data", "leave it empty")


def _settings(asked: NewStudy) -> list[GivenValue]:
    """Returns the values of the fields that are settings; an empty field gives none."""
    names = [name for name in FIELDS if name in SETTINGS and name not in OF_DATA]
    return given_by({name: getattr(asked, name) or None for name in names})


def _of_glue(asked: NewStudy, data: OfferedData) -> Iterator[GivenValue]:
    if not asked.tasks:
        raise Refusal("tasks", "no task is chosen", f"choose one or several of {', '.join(data.tasks)}")
    refuse_unknown("tasks", "task", data.tasks, *asked.tasks)
    yield GivenValue("data", data.value, "data")
    yield GivenValue("tasks", list(asked.tasks), "tasks")


def _own(asked: NewStudy) -> Iterator[GivenValue]:
    """Yields the only task: the file's, with the chosen columns."""
    path = Path(asked.data)
    names = column_names(path)
    texts = [name for name in ("text", "second_text") if name == "text" or getattr(asked, name)]
    for name in (*texts, "label"):
        if not getattr(asked, name):
            raise Refusal(name, "no column is chosen", f"choose one of {', '.join(names)}")
        refuse_unknown(name, "column", names, getattr(asked, name))
    columns = [getattr(asked, name) for name in texts]
    _refuse_twice([*columns, asked.label], [*texts, "label"])
    name, task = described_task(path, columns, asked.label)
    task |= {"regression": True} if asked.answers == NUMBERS else {}
    yield GivenValue("tasks", {name: task}, "data")


def _refuse_twice(columns: Sequence[str], fields: Sequence[str]) -> None:
    for place, (column, field) in enumerate(zip(columns, fields, strict=True)):
        if column in columns[:place]:
            raise Refusal(field, f"the column {column!r} is chosen twice", "choose another column")
