"""Tests that the table of kinds of trials is whole and means what records hold, and that nothing spells a kind anew."""

import ast
import json
from pathlib import Path

import pytest

import krona_tune
from krona_tune.study.kinds import FULL_TRAININGS, PHASES, TrialKind, facts_of, searched_number
from krona_tune.study.randomness import stream
from krona_tune.study.request.trial import check_trial
from tests.syntax_trees import tree_of

PACKAGE = Path(krona_tune.__file__).parent
SPELLED = {str(kind) for kind in TrialKind} - {"search", "baseline"}
"""The words that mean a kind and nothing else; `search` is a section of the YAML too, `baseline` a word of tables."""


def test_each_kind_has_the_name_and_the_ids_that_records_hold() -> None:
    ids = {kind: kind.facts.id_of(task="cola", number=7, index=2, source="cola-003") for kind in TrialKind}
    assert {str(kind): trial_id for kind, trial_id in ids.items()} == {
        "search": "cola-007",
        "baseline": "cola-head-7",
        "finalist": "cola-final-7-s2",
        "repeat": "cola-003-s2",
        "full_train": "cola-003-full-train-s2",
        "full_data": "cola-003-full-data-s2",
    }
    assert [kind for kind in TrialKind if searched_number(ids[kind], "cola") is not None] == [TrialKind.SEARCH]


@pytest.mark.parametrize("number", [0, 7, 1234])
def test_the_number_of_a_searched_trial_is_read_from_its_id(number: int) -> None:
    trial_id = TrialKind.SEARCH.facts.id_of(task="own-1", number=number)
    assert (searched_number(trial_id, "own-1"), searched_number(trial_id, "own")) == (number, None)


def test_full_trainings_alone_are_uncounted_and_say_what_they_are_trained_on() -> None:
    assert {TrialKind.FULL_TRAIN, TrialKind.FULL_DATA} == FULL_TRAININGS
    assert {kind for kind in TrialKind if kind.facts.trained_on} == FULL_TRAININGS
    assert {kind for kind in TrialKind if kind.facts.tested} == {TrialKind.FINALIST, TrialKind.FULL_TRAIN}


def test_the_kinds_that_count_are_trained_in_phases_and_those_of_a_phase_together() -> None:
    assert PHASES == ((TrialKind.SEARCH, TrialKind.BASELINE), (TrialKind.FINALIST,), (TrialKind.REPEAT,))
    assert {kind for phase in PHASES for kind in phase} == set(TrialKind) - FULL_TRAININGS


@pytest.mark.parametrize("kind", TrialKind)
def test_a_kind_is_its_word_wherever_it_is_written(kind: TrialKind) -> None:
    word = str(kind.value)
    assert (kind, f"{kind}", json.dumps(kind)) == (word, word, f'"{word}"')
    assert stream(0, kind, "cola", 1) == stream(0, word, "cola", 1)
    trial = check_trial("cola", 3, {"method": "krona"}, word)
    assert trial.kind is kind
    assert facts_of(word) == kind.facts


def test_what_is_no_kind_has_no_facts() -> None:
    with pytest.raises(ValueError, match="'serch' is not a valid TrialKind"):
        facts_of("serch")


def test_no_other_module_spells_a_kind() -> None:
    def spells(path: Path) -> bool:
        tree = tree_of(path)
        return any(isinstance(node, ast.Constant) and node.value in SPELLED for node in ast.walk(tree))

    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if spells(path)}
    assert found == {"study/kinds.py", "search/terminal/result_tables.py"}, "the second has a column called finalist"
