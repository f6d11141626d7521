"""Makes a service that begins studies of a small file, a model folder and GLUE's files."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from krona_tune.record.storage import Storage
from krona_tune.service.new_study.data_roots import DataRoots
from krona_tune.service.queue.study_queue import StudyQueue
from krona_tune.service.web_server import make_app
from tests.backbone_folders import MINILM, folder_of
from tests.service.conftest import TOKEN, client_of

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Makes a root: a file of 400 short texts with a label and a number, and a model."""
    root = tmp_path / "data"
    root.mkdir()
    lines = [f"a {'good' if n % 2 else 'bad'} book of {n} pages,{n % 2},{n / 10}" for n in range(400)]
    (root / "reviews.csv").write_text("\n".join(["text,label,score", *lines]) + "\n")
    for name in ("train.tsv", "dev.tsv"):
        (root / "CoLA").mkdir(exist_ok=True)
        (root / "CoLA" / name).write_text("gj04\t1\t\tA text.\n" * 40)
    folder_of(MINILM, root / "minilm")
    return root


@pytest.fixture
def begins(storage: Storage, study_queue: StudyQueue, data: Path) -> TestClient:
    """A service that begins studies, and someone who knows its token; its queue starts nothing."""
    app = make_app(storage, TOKEN, pace=0, queue=study_queue, of_account=True, roots=DataRoots.at([data]))
    return client_of(app, headers=BEARER, follow_redirects=False)
