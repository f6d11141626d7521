"""Runs blocks: Python by exec, `krona-tune` and `run_study.py` as programs, YAML through the loader."""

import io
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from krona_tune import cli
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.study_spec import StudySpec
from tests.docs.blocks import ROOT, Block
from tests.whole_studies import KRONA_TUNE, SOON

STARTING = ("run", "resume", "train")
"""The commands that start Ray, if they are not a dry run; each gets a process of its own."""
PROGRAMS: dict[tuple[str, ...], Callable[[], None]] = {
    ("krona-tune",): cli.main,
    ("python", "run_study.py"): cli.run_study,
}
"""The programs that a block may run, by the words that start them."""
SMALL = (
    *("--set", "examples.train=256", "--set", "examples.validation=128", "--set", "examples.test=128"),
    *("--set", "finalists.budget=4", "--set", "finalists.default=false"),
)
"""Makes a study of the miniature shorter, of which the pages show the same."""
NAMED_FILE = re.compile(r"# (\w+\.(?:yaml|py))\n")


class Runner:
    """Runs the blocks of one page, or of several that share a study, in the current folder, one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self.said = ""

    def run(self, block: Block, refusal: str = "") -> None:
        """Runs a block; one that is refused has to say `refusal`, in which … stands for anything."""
        {"bash": self._bash, "python": self._python, "yaml": self._yaml}[block.language](block, refusal)

    def _python(self, block: Block, refusal: str) -> None:
        exec(compile(block.text, block.place, "exec"), self._names)

    def _yaml(self, block: Block, refusal: str) -> None:
        if named := NAMED_FILE.match(block.text):
            Path(named[1]).write_text(block.text, encoding="utf-8")
        written = yaml.safe_load(block.text)
        assert written.keys() <= StudySpec.model_fields.keys(), block.place
        build_spec({"model": "any", **written}, block.place)

    def _bash(self, block: Block, refusal: str) -> None:
        lines = [line for line in block.text.splitlines() if shlex.split(line, comments=True)]
        for line in lines:
            status = self._line(block, line)
            expected = 2 if block.refused and line is lines[-1] else 0
            assert status == expected, f"{block.place}: {line}: {status}\n{self.said}"
        if block.refused:
            parts = [re.escape(part) for part in refusal.strip().split("…")]
            assert re.fullmatch(".*".join(parts), self.said.strip(), re.DOTALL), f"{block.place}: {self.said}"

    def _line(self, block: Block, line: str) -> int:
        """Runs a line with at most one pipe or redirection; returns its last command's status."""
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|>")
        lexer.whitespace_split = True
        words = list(lexer)
        if ">" in words:
            before, (target,) = words[: words.index(">")], words[words.index(">") + 1 :]
            said = {"echo": "{}\n", "printf": "{}"}[before[0]].format(" ".join(before[1:]).replace("\\n", "\n"))
            Path(target).write_text(said, encoding="utf-8")
            return 0
        typed = ""
        if "|" in words:
            before, words = words[: words.index("|")], words[words.index("|") + 1 :]
            assert before[0] == "echo", block.place
            typed = " ".join(before[1:]) + "\n"
        for start, program in PROGRAMS.items():
            if tuple(words[: len(start)]) == start:
                rest = words[len(start) :]
                if rest[0] in STARTING and "--dry-run" not in rest and not block.refused:
                    return self._process(rest)
                return self._program(program, rest, typed)
        refuse_unknown(words, block.place)
        return 0

    def _process(self, words: Sequence[str]) -> int:
        """Runs `krona-tune` in a process that Ray and MLflow may leave as they like."""
        command = [sys.executable, "-c", SOON + KRONA_TUNE, *words, *(SMALL if "mini" in words else ())]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        self.said = ended.stdout + ended.stderr
        return ended.returncode

    def _program(self, program: Callable[[], None], words: Sequence[str], typed: str) -> int:
        self._monkeypatch.setattr(sys, "argv", [program.__name__, *words])
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        with pytest.raises(SystemExit) as ended:
            program()
        self.said = "".join(self._capsys.readouterr())
        return int(ended.value.code or 0)


def refuse_unknown(words: Sequence[str], place: str) -> None:
    """Asserts of a command that no test runs, `make` or `pip install`, that what it names is there."""
    match list(words):
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), place
        case ["pip", "install", *packages]:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            asked = {extra for each in packages for extra in re.findall(r"\[(\w+)\]", each)}
            assert asked <= project["optional-dependencies"].keys(), place
        case _:
            pytest.fail(f"{place}: no test can run {' '.join(words)}; write needs=THING after the block's language")
