"""Tests that the tasks beside GLUE's are read from the files of their package."""

from pathlib import Path

from tests.benchmarks.curves import texts

NEWS = """Number\tTopic\tContent
continuous\tdiscrete\tstring
\tclass\tmeta
1\tone\t"first, and ""quoted\"""
2\ttwo\tsecond
3\ttwo\tsecond
4\ttwo\t
"""


def test_each_text_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "news.tab"
    path.write_text(NEWS, encoding="utf-8")
    found = texts.rows(path, "Content", "Topic")
    assert found.to_dict("list") == {"text": ['first, and "quoted"', "second"], "label": ["one", "two"]}
