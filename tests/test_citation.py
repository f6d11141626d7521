"""Tests that CITATION.cff is in the Citation File Format and agrees with the package and the changelog."""

import re
import tomllib
from pathlib import Path

import jsonschema
import yaml

ROOT = Path(__file__).resolve().parent.parent
PERSON = {"required": ["family-names", "given-names"], "properties": {"family-names": {"type": "string"}}}
ENTITY = {"required": ["name"], "properties": {"name": {"type": "string"}}}
AUTHORS = {"type": "array", "minItems": 1, "items": {"anyOf": [PERSON, ENTITY]}}
REQUIRED = {
    "type": "object",
    "required": ["cff-version", "message", "title", "authors"],
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "type": {"enum": ["software", "dataset"]},
        "authors": AUTHORS,
        "references": {
            "type": "array",
            "items": {"required": ["type", "title", "authors"], "properties": {"authors": AUTHORS}},
        },
    },
}
"""What version 1.2.0 of the format requires of the keys that are used here."""


def test_the_citation_has_what_the_format_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    jsonschema.validate(citation, REQUIRED)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["license"] == project["license"]
    assert citation["title"].startswith(f"{project['name']}: ")
    assert "version" not in citation, "the version stands in krona_tune/__init__.py alone"


def test_the_paper_is_the_one_that_the_pages_cite() -> None:
    (paper,) = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    page = (ROOT / "krona_tune/report/templates/cite.html.j2").read_text(encoding="utf-8")
    (number,) = set(re.findall(r"\d{4}\.\d{5}", paper["url"]))
    assert paper["identifiers"] == [{"type": "doi", "value": f"10.48550/arXiv.{number}"}]
    assert number in page


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]


def test_the_changelog_has_the_sections_of_keep_a_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", each) for each in versions[1:])
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE)) <= known
