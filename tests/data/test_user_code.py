"""Tests that a user's function or pattern may do anything, and only its own process or its own value is lost."""

import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from krona_tune.child_process import CALL_SECONDS
from krona_tune.data import user_code
from krona_tune.data.user_code import (
    NoValue,
    check_function,
    code_digest,
    extracted_texts,
    function_on_draws,
    function_value,
    telling_messages,
)
from krona_tune.refusal import Refusal
from krona_tune.study.randomness import RESAMPLES

KEY = "tasks.mine.metric"
LABELS, ANSWERS = np.array(["yes", "no", "no"], dtype=object), np.array(["yes", "yes", "no"], dtype=object)
RIGHT = "def right(labels, answers):\n    return (labels == answers).mean()\n"


def written(folder: Path, code: str, name: str = "costs.py") -> str:
    """Writes a file of code; returns the place of its function `right`."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(code)
    return f"{folder / name}:right"


def value(place: str) -> float:
    return function_value(KEY, place, LABELS, ANSWERS)


def refusal_of(place: str) -> Refusal:
    with pytest.raises(Refusal) as refused:
        value(place)
    assert refused.value.place == KEY
    return refused.value


def test_a_function_is_called_with_labels_and_answers_in_another_process(tmp_path: Path) -> None:
    assert value(written(tmp_path, RIGHT)) == pytest.approx(2 / 3)
    process = "import os\n\ndef right(labels, answers):\n    return os.getpid() if labels[1] == 'no' else 0\n"
    other = value(written(tmp_path / "other", process))
    assert other == value(f"{tmp_path}/other/costs.py:right")
    assert other not in (0, os.getpid())
    assert not [name for name in sys.modules if "metric_costs" in name]
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".pyc"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError(labels[0])", "failed (ValueError at costs.py:2)"),
        ("return labels[0]", "failed (TypeError)"),
        ("return '0.5'", "failed (TypeError)"),
        ("return b'0.5'", "failed (TypeError)"),
        ("import numpy; return numpy.complex64(0.5 + 2j)", "failed (TypeError)"),
        ("return float('nan')", "returned nan"),
        ("return float('inf')", "returned inf"),
        ("import warnings; warnings.warn(labels[0]); raise KeyError(*answers)", "failed (KeyError at costs.py:2)"),
    ],
)
def test_a_function_without_a_value_is_told_by_kind_and_line_without_its_message(
    code: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = written(tmp_path, f"def right(labels, answers):\n    {code}\n")
    refusal = refusal_of(place)
    assert isinstance(refusal, NoValue)
    assert refusal.problem == f"{place} {said}"
    assert "yes" not in "".join((str(refusal), str(refusal.__cause__), *capfd.readouterr()))


def test_the_message_is_told_where_only_the_terminal_shows_it(tmp_path: Path) -> None:
    place = written(tmp_path, "def right(labels, answers):\n    raise ValueError('about ' + labels[0])\n")
    with pytest.raises(NoValue, match=r"right failed \(ValueError: about yes at costs.py:2\)"), telling_messages():
        value(place)


def test_an_error_that_can_not_say_its_message_is_told_by_its_kind(tmp_path: Path) -> None:
    odd = "class Odd(Exception):\n    def __str__(self):\n        return self.nothing\n\n"
    place = written(tmp_path, f"{odd}def right(labels, answers):\n    raise Odd\n")
    with pytest.raises(NoValue, match=r"right failed \(Odd at costs.py:6\)"), telling_messages():
        value(place)


def test_a_file_that_calls_its_function_when_it_is_imported_starts_no_further_process(tmp_path: Path) -> None:
    """As the program of a study does that has its metric in itself."""
    begins = f"from krona_tune.data.user_code import check_function\ncheck_function({KEY!r}, __file__ + ':right')\n"
    with (
        pytest.raises(Refusal, match=r"its file begins a study when it is imported; put that below `if __name__ =="),
        telling_messages(),
    ):
        check_function(KEY, written(tmp_path, RIGHT + begins))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys\nsys.exit(3)\n", "it ended its process (SystemExit)"),
        ("def right(labels, answers):\n    raise SystemExit\n", "it ended its process (SystemExit)"),
        ("def right(labels, answers):\n    raise BaseException\n", "it ended its process (BaseException)"),
        ("import os\n\ndef right(labels, answers):\n    os._exit(0)\n", "it ended its process (status 0)"),
        ("import time\ntime.sleep(600)\n", "it took more than 1 s"),
        ("def right(labels, answers):\n    while True:\n        pass\n", "it took more than 1 s"),
    ],
)
def test_a_function_that_ends_its_process_or_never_returns_is_refused_by_its_key(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_code, "CALL_SECONDS", 1.0 if "more than" in said else CALL_SECONDS)
    place = written(tmp_path, code)
    refusal = refusal_of(place)
    assert not isinstance(refusal, NoValue)
    assert refusal.problem == f"{place}: {said}"


def test_a_function_that_breaks_what_calls_it_is_refused_by_its_key(tmp_path: Path) -> None:
    place = written(tmp_path, f"import numpy\n\nnumpy.full = None\n{RIGHT}")
    with pytest.raises(Refusal, match=r"tasks\.mine\.metric: .*right: what called it failed \(TypeError\)"):
        function_on_draws(KEY, place, LABELS, ANSWERS, "mine", 3)


def test_code_that_can_not_be_imported_is_refused_with_its_line(tmp_path: Path) -> None:
    broken = refusal_of(written(tmp_path, "x = 1\ny = = 2\n"))
    assert broken.problem.endswith("costs.py:right can't be imported (SyntaxError at costs.py:2)")
    assert broken.fix == "write MODULE:FUNCTION, or FILE.py:FUNCTION beside the YAML file"
    (tmp_path / "texts.txt").write_text("a secret")
    leaking = written(tmp_path, f"x = int(open({str(tmp_path / 'texts.txt')!r}).read())\n")
    assert refusal_of(leaking).problem.endswith("can't be imported (ValueError at costs.py:1)")
    with pytest.raises(Refusal, match=r"tasks.mine.metric: math has no function 'tau'"):
        check_function(KEY, "math:tau")
    with pytest.raises(Refusal, match=r"no function 'cost'; write the program's file, as in FILE\.py:cost$"):
        check_function(KEY, "__main__:cost")
    check_function(KEY, "math:dist")


def test_what_is_no_file_of_code_is_refused_before_anything_reads_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "huge.py").write_text("#" * 1_000_001)
    said = {"pipe": "is no regular file", "folder": "is no regular file", "huge": "has more than 1,000,000 bytes"}
    for name, problem in {**said, "none": "is not there", "x" * 300: "is not there"}.items():
        assert problem in refusal_of(f"{tmp_path}/{name}.py:right").problem


def test_a_file_may_have_a_name_that_is_no_text(tmp_path: Path) -> None:
    assert value(written(tmp_path, RIGHT, os.fsdecode(b"co\xffsts.py"))) == pytest.approx(2 / 3)


def test_files_of_one_name_use_the_helpers_of_their_own_folders(tmp_path: Path) -> None:
    code = (
        "from helper import NUMBER\n\ndef right(labels, answers):\n    import later\n    return NUMBER + later.MORE\n"
    )
    places = []
    for number, folder in enumerate(("first", "second")):
        places.append(written(tmp_path / folder, code))
        written(tmp_path / folder, f"NUMBER = {number}\n", "helper.py")
        written(tmp_path / folder, f"MORE = {10 * number}\n", "later.py")
    assert [value(place) for place in (*places, *places)] == [0, 11, 0, 11]


def test_a_file_that_has_changed_is_read_again_and_so_is_its_helper(tmp_path: Path) -> None:
    place = written(tmp_path, "from helper import NUMBER\n\ndef right(labels, answers):\n    return NUMBER\n")
    written(tmp_path, "NUMBER = 1\n", "helper.py")
    assert value(place) == 1
    written(tmp_path, "NUMBER = 2\n", "helper.py")
    assert value(place) == 2
    written(tmp_path, "def right(labels, answers):\n    return 3\n")
    assert value(place) == 3


def test_a_module_is_found_where_the_search_path_names_its_folder_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, RIGHT, "found_later.py")
    with pytest.raises(Refusal, match="found_later:right can't be imported"):
        value("found_later:right")
    monkeypatch.syspath_prepend(tmp_path)
    assert value("found_later:right") == pytest.approx(2 / 3)


def test_draws_without_a_value_have_none_and_the_others_keep_their_places(tmp_path: Path) -> None:
    code = "def right(labels, answers):\n    return 1 / len(set(labels) - {'no'}) + (answers == 'no').sum()\n"
    labels = np.array(["yes", *["no"] * 7], dtype=object)
    values = function_on_draws(KEY, written(tmp_path, code), labels, labels, "mine", RESAMPLES)
    assert values.shape == (RESAMPLES,)
    assert np.isnan(values).mean() == pytest.approx((7 / 8) ** 8, abs=0.06)
    assert set(values[~np.isnan(values)]) <= {*map(float, range(1, 9))}
    again = function_on_draws(KEY, f"{tmp_path}/costs.py:right", labels, labels[::-1].copy(), "mine", RESAMPLES)
    assert (np.isnan(values) == np.isnan(again)).all()
    assert any(a != b and not math.isnan(a) for a, b in zip(values, again, strict=True))


def test_a_pattern_that_never_ends_is_refused_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extracted_texts("tasks.sums.extract", r"\d+", ["so 3, then 12", "none"]) == ["12", ""]
    monkeypatch.setattr(user_code, "CALL_SECONDS", 0.5)
    with pytest.raises(Refusal, match=r"tasks\.sums\.extract: the expression: it took more than 0\.5 s"):
        extracted_texts("tasks.sums.extract", "(a+)+$", ["a" * 40 + "b"])


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


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, opened, open_ = folder_of_code(tmp_path), [], Path.open

    def noted(path: Path, *given: Any, **named: Any) -> Any:
        opened.append(path.name)
        return open_(path, *given, **named)

    monkeypatch.setattr(Path, "open", noted)
    digest = code_digest([file])
    assert len(opened) == len(COVERED)
    opened.clear()
    assert code_digest([file]) == digest
    assert not opened
    (tmp_path / "helper.py").write_text("x = 2\n")
    opened.clear()
    assert code_digest([file]) != digest
    assert opened == ["helper.py"]
