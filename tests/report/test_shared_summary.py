"""Tests that the page of a study with shared configurations ranks them by their average."""

from dataclasses import replace

from krona_tune.record.records import Records
from krona_tune.report.study_page import render
from krona_tune.report.task_summary import shared_part
from krona_tune.study.result import Status
from tests.record.events import manifest
from tests.search.test_result_tables import sized

SHARED, OWN = "search: {shared: true}", "search: {trials: 3}"
ROWS = [
    *sized("cola", (100, 0.9), (300, 0.5), (250, 0.4)),
    *sized("rte", (100, 0.1), (310, 0.8), (250, 0.6)),
]


def test_only_configurations_that_came_to_their_end_on_every_task_are_ranked() -> None:
    broken = [*ROWS[:-1], replace(ROWS[-1], status=Status.DIVERGED)]
    part = shared_part(Records(trials=tuple(broken)), manifest("cola", "rte"), SHARED)
    assert part is not None
    assert [(each.number, each.average, each.parameters) for each in part.ranked] == [(1, 0.65, 310), (0, 0.5, 100)]
    assert part.begun == 3
    assert part.front == [(100, 0.5), (310, 0.65)]


def test_the_winner_of_the_average_is_named_on_every_task() -> None:
    page = " ".join(render(manifest("cola", "rte"), Records(trials=tuple(ROWS)), SHARED).split())
    assert "One configuration for all tasks averages <strong>0.650</strong> on validation over 2 tasks" in page
    assert "<code>cola-001</code>, here at place 2 with 0.500" in page
    assert 'id="shared-ranking"' in page
    own = render(manifest("cola", "rte"), Records(trials=tuple(ROWS)), OWN)
    assert 'id="shared-ranking"' not in own
    assert "The best adapters average <strong>0.850</strong>" in " ".join(own.split())


def test_without_a_whole_configuration_the_page_says_so() -> None:
    page = " ".join(render(manifest("cola", "rte"), Records(trials=tuple(ROWS[:2])), SHARED).split())
    assert "None of the 2 configurations that were begun has come to its end on every task" in page


def test_one_configuration_is_told_task_by_task_where_scores_have_no_mean() -> None:
    made = manifest("cola", "rte")
    facts = {task: facts.model_copy(update={"compared_by_loss": True}) for task, facts in made.tasks.items()}
    page = " ".join(render(made.model_copy(update={"tasks": facts}), Records(trials=tuple(ROWS)), SHARED).split())
    assert "On RTE, the one configuration for all tasks has a validation score of <strong>0.800</strong>" in page
    assert "averages <strong>" not in page
    assert 'id="shared-ranking"' in page
