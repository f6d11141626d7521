"""Tests that GLUE's own files, if this machine has them, give the published counts, labels and parts."""

import os

import pytest

from krona_tune.data import corpus
from krona_tune.data.tasks import TASKS
from krona_tune.record.recorded_curves import HARDLY_LEARNED, LEARNED
from krona_tune.refusal import Refusal

FOLDER = os.environ.get("KRONA_GLUE_DIR")
PARTS = {
    "cola": (8_551, 521, 522),
    "sst2": (66_349, 1_000, 872),
    "mrpc": (3_668, 204, 204),
    "qqp": (362_846, 1_000, 40_430),
    "stsb": (5_749, 750, 750),
    "mnli": (392_702, 9_832, 9_815),
    "qnli": (103_743, 1_000, 5_463),
    "rte": (2_490, 138, 139),
    "wnli": (635, 35, 36),
}
MEAN_LABEL = {
    "cola": 0.704,
    "sst2": 0.558,
    "mrpc": 0.674,
    "qqp": 0.369,
    "stsb": 2.701,
    "mnli": 1.000,
    "qnli": 0.500,
    "rte": 0.498,
    "wnli": 0.491,
}
TOLERANCE = {"qqp": 1e-4}  # the official file and the hub's differ by a few rows


@pytest.fixture(scope="module", params=TASKS)
def data(request):
    task = TASKS[request.param]
    if not FOLDER:
        pytest.skip("KRONA_GLUE_DIR names no folder with GLUE's files")
    try:
        corpus.check(FOLDER, [task.name])
    except Refusal:
        pytest.skip(f"no {task.title} in KRONA_GLUE_DIR, {FOLDER}")
    return corpus.load(task, FOLDER)


def test_the_parts_have_the_published_sizes(data):
    sizes = (data.train.num_rows, data.validation.num_rows, data.test.num_rows)
    assert sizes == pytest.approx(PARTS[data.task.name], rel=TOLERANCE.get(data.task.name, 0))


def test_every_label_occurs_in_every_part(data):
    for table in (data.train, data.validation, data.test):
        labels = set(table["label"].to_pylist())
        if data.task.is_regression:
            assert min(labels) == 0
            assert max(labels) == 5
        else:
            assert labels == set(range(len(data.task.labels)))


def test_no_text_is_empty_or_holds_a_tab_or_a_line_end(data):
    for name in data.task.inputs:
        texts = data.train[name].to_pylist()
        assert not any("\t" in text or "\n" in text for text in texts)
        assert sum(not text.strip() for text in texts) <= 5


def test_the_mean_of_the_training_labels_is_the_published_one(data):
    assert data.train["label"].to_numpy().mean() == pytest.approx(MEAN_LABEL[data.task.name], abs=0.004)


def test_data_whose_curves_are_recorded_are_known_again(data):
    assert data.contents == (LEARNED | HARDLY_LEARNED).get(data.task.name, data.contents)
