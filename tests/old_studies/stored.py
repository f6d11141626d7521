"""Puts the studies of a format back where a test can work with them."""

import shutil
from pathlib import Path

PLACE = "/home/user/work"
"""Where the studies say that they were written."""
STORED = "stored"
"""Their folder in a format's folder: git ignores `studies`."""
TEXTS = {".yaml", ".json", ".journal", ".md"}
"""The files that contain a path."""
FORMATS = sorted(Path(__file__).parent.glob("format_*"))


def put_back(stored: Path, root: Path) -> None:
    """Copies the studies of one format and their backbone into `root`, with their paths changed to there."""
    shutil.copytree(stored, root, ignore=shutil.ignore_patterns(STORED), dirs_exist_ok=True)
    shutil.copytree(stored / STORED, root / "studies", dirs_exist_ok=True)
    for path in root.rglob("*"):
        if path.suffix in TEXTS:
            path.write_text(path.read_text(encoding="utf-8").replace(PLACE, str(root)), encoding="utf-8")
