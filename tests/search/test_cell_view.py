"""Tests what named lines show in a notebook's cell."""

import pytest

from krona_tune.search.terminal.cell_view import NamedLines

LABELS = "2 labels: [spam] 50.0%, [/b] 50.0%"


class Found(NamedLines):
    """Shows labels as people name them."""

    _title = "Plan"

    @property
    def lines(self) -> dict[str, str]:
        return {"mails": LABELS}


@pytest.mark.parametrize("show", [NamedLines.__repr__, NamedLines._repr_html_])
def test_brackets_in_a_line_are_shown_as_they_are(show: object) -> None:
    assert callable(show)
    assert LABELS in show(Found())
