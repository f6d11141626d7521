"""Makes inputs as an attacker or an accident would: random, or a correct input with a few changes."""

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from krona_tune.refusal import Refusal

HOSTILE = settings(
    max_examples=max(150, settings().max_examples),
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""Every run draws other examples; the profile `thousand` of the long tests draws more."""
ODD_TEXTS = st.sampled_from(
    [
        "",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "a\x00b",
        "\ud800",
        "💥" * 30,
        "${HOME}",
        "$(touch x)",
        "__class__",
        "1e999",
    ]
)
ODD_NUMBERS = st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, -(10**400), 1e308, 1e-320, float("nan"), float("inf")])
SCALARS = st.none() | st.booleans() | ODD_NUMBERS | st.integers() | st.floats() | ODD_TEXTS | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXTS | st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, right: Any) -> Any:
    """Draws a correct input with one to three changes: another value, a missing part, or an added key."""
    wrong = copy.deepcopy(right)
    for _ in range(draw(st.integers(1, 3))):
        where = wrong
        while True:
            keys = list(where) if isinstance(where, dict) else list(range(len(where)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(where[key], dict | list) and where[key] and draw(st.booleans()):
                where = where[key]
                continue
            match draw(st.sampled_from(["other", "missing", "more"])):
                case "missing":
                    del where[key]
                case "more" if isinstance(where, dict):
                    where[draw(ODD_TEXTS)] = draw(VALUES)
                case _:
                    where[key] = draw(VALUES)
            break
    return wrong


@st.composite
def damaged(draw: st.DrawFn, right: bytes) -> bytes:
    """Draws a correct input with bytes changed, cut out or inserted."""
    wrong = bytearray(right)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(wrong) - 1)))
        match draw(st.sampled_from(["change", "cut", "put", "end"])):
            case "change" if wrong:
                wrong[at] = draw(st.integers(0, 255))
            case "cut":
                del wrong[at : at + draw(st.integers(1, 40))]
            case "put":
                wrong[at:at] = draw(st.binary(max_size=40))
            case "end":
                del wrong[at:]
    return bytes(wrong)


def clean(read: Callable[[], Any]) -> Any:
    """Returns what is read, or the refusal, which must be short; any other exception fails the test."""
    try:
        return read()
    except Refusal as refused:
        refusal = refused
    assert str(refusal)
    assert len(str(refusal)) < 20_000
    return refusal
