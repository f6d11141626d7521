"""Tests that the hash of a metric's code covers what it imports from its own folder, and nothing else."""

import os
from pathlib import Path

from krona_tune.data.code_files import code_digest

FILES = {
    "costs.py": "import helper\nfrom tools.deep import thing\nfrom tools import more\nimport json\n",
    "helper.py": "def later():\n    import second.inner\n",
    "second/inner.py": "import costs, nowhere, costs.deep\n",
    "second/__init__.py": "",
    "tools/__init__.py": "from . import near\n",
    "tools/deep.py": "from .near import x\nfrom .. import above\nfrom ..... import far\n",
    "tools/near.py": "x = 1\n",
    "tools/more.py": "this is no code\n",
    "unrelated.py": "",
    "tools/unrelated.py": "",
}
COVERED = [name for name in FILES if "unrelated" not in name]


def folder_of_code(folder: Path) -> Path:
    for name, code in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code)
    return folder / "costs.py"


def test_a_change_of_what_is_imported_changes_the_hash_and_no_other_change_does(tmp_path: Path) -> None:
    file = folder_of_code(tmp_path / "code")
    digest = code_digest([file])
    for name, code in FILES.items():
        path = file.parent / name
        path.write_text(code + "# changed\n")
        assert (code_digest([file]) != digest) == (name in COVERED), name
        path.write_text(code)
    assert code_digest([file]) == digest == code_digest([folder_of_code(tmp_path / "moved")])


def test_without_a_file_there_is_no_hash_and_a_pipe_is_never_opened(tmp_path: Path) -> None:
    assert code_digest([]) == ""
    os.mkfifo(tmp_path / "helper.py")
    (tmp_path / "costs.py").write_text("import helper\n")
    assert code_digest([tmp_path / "costs.py"])
