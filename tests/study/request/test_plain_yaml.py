"""Tests that YAML is read as plain values; other or slow content is refused with line and column."""

from typing import Any

import pytest

from krona_tune.refusal import Refusal
from krona_tune.study.request.plain_yaml import DEEPEST, dump_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("when: 2001-01-01", {"when": "2001-01-01"}),
        ("when: 2001-99-99", {"when": "2001-99-99"}),
        ("[=, <<, ~, on, 0x1f, 1_000, .inf]", ["=", "<<", None, True, 31, 1000, float("inf")]),
        ("[0, -0, 0.10, 1e-05, '010', 1:30 h]", [0, 0, 0.1, 1e-05, "010", "1:30 h"]),
        ("a: {<<: 1, b: 2}", {"a": {"<<": 1, "b": 2}}),
        ("{a: {b: 1}, c: {b: 1}}", {"a": {"b": 1}, "c": {"b": 1}}),
        ("'on': 1", {"on": 1}),
        ('"a\\Nb": ["\\N", "\\L", " c\\r\\n"]', {"a\x85b": ["\x85", "\u2028", " c\r\n"]}),
        ("[" * DEEPEST + "]" * DEEPEST, eval("[" * DEEPEST + "]" * DEEPEST)),
    ],
)
def test_plain_values_are_read_and_what_is_written_of_them_is_read_again(text: str, value: Any) -> None:
    assert read_yaml(text, "x.yaml") == value
    assert read_yaml(dump_yaml(value), "x.yaml") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model: m\nadapter:\n  scale: 2\n  roles: key\n  scale: 3\n",
            "line 5, column 3: the key 'scale' is written twice, first in line 3; keep one of them",
        ),
        ("a: 1\n'a': 1", "line 2, column 1: the key 'a' is written twice, first in line 1"),
        ("a: {b: [{c: 1, d: 1, c: 2}]}", "line 1, column 22: the key 'c' is written twice"),
        ("on: 1", "line 1, column 1: the key true is no word; put it in quotes"),
        ("{3: 1}", "line 1, column 2: the key 3 is no word; put it in quotes"),
        ("? [a]\n: b", "line 1, column 3: the key ['a'] is no word; put it in quotes"),
        ("a: 1\nb: x\x00y", "line 2, column 5: holds the character '\\x00'; take it out"),
        ("a: \ud800", "line 1, column 4: holds the character '\\ud800'; take it out"),
        ("a: !!timestamp 2001-01-01", "line 1, column 4: the tag 'tag:yaml.org,2002:timestamp' means nothing here"),
        ("a: !!set {b}", "line 1, column 4: the tag 'tag:yaml.org,2002:set' means nothing here; write a plain value"),
        ("a: !!int ''", "line 1, column 4: '' can't be read as int; write a shorter number, or a word in quotes"),
        ("a: !!bool maybe", "line 1, column 4: 'maybe' can't be read as bool"),
        ("a: " + "9" * 5000, f"line 1, column 4: '{'9' * 79}…{'9' * 19}' can't be read as int"),
        (f"%YAML {'9' * 5000}.1\n--- a", "x.yaml: not YAML: it holds an escape"),
        ("a: 1\n--- \nb: 1", "not YAML: expected a single document in the stream, but found another document"),
        ("a: 010", "line 1, column 4: 010 would be 8; write that, or '010' in quotes"),
        ("time_budget: 1:30", "line 1, column 14: 1:30 would be 90; write that, or '1:30' in quotes"),
        ("[-0_7, +1:30:00.5]", "line 1, column 2: -0_7 would be -7"),
        ("[0, 0.5, 00:10.5]", "line 1, column 10: 00:10.5 would be 10.5"),
        ("a: *b", "line 1, column 4: *b is an alias; write it out"),
        ("[" * 21, "line 1, column 21: more than 20 lists and mappings within each other; write them flat"),
        ("{a: " * 20_000, "line 1, column 78: more than 20 lists and mappings within each other"),
        ("- " * 20_000 + "x", "line 1, column 41: more than 20 lists and mappings within each other"),
        ("? " * 20_000 + "x", "more than 20 lists and mappings within each other"),
        ("x " * 50_001, "x.yaml: more than 100,000 characters; write a shorter request"),
        ("a:\n\tb: 1", "that cannot start any token; write blanks in place of the tab"),
        ('"\\U7fffffff"', "x.yaml: not YAML: it holds an escape that means no character; write the character"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_line_and_column(text: str, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_yaml(text, "x.yaml")
    assert str(refused.value).startswith("x.yaml")
    assert message in str(refused.value)
    assert len(str(refused.value)) < 400
