"""Tests that passwords are masked wherever they stand in a text, and nothing else is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krona_tune.study.redact import redact
from tests.security.hostile import HOSTILE

SECRETS = st.text(alphabet="abcXYZ0189!$%^*()_+=~.,;-/@", min_size=6, max_size=20).filter(
    lambda text: not re.match(r"\d{1,5}/", text)  # that is a port and a path
)


@HOSTILE
@given(
    st.sampled_from(["http", "https", "postgresql+psycopg2", "mysql"]), SECRETS, st.sampled_from(["/", "", "/db?x=1"])
)
def test_no_url_carries_its_password(scheme: str, secret: str, path: str) -> None:
    text = f"before --tracking-uri={scheme}://user:{secret}@host:5000{path} after"
    assert secret not in redact(text).replace("user", "").replace("after", "")
    assert redact(text) == f"before --tracking-uri={scheme}://user:***@host:5000{path} after"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("http://:s3cret@host", "http://:***@host"),
        ("two http://a:b@c and http://d:e@f", "two http://a:***@c and http://d:***@f"),
        ("sqlite:////studies/mlflow.db", "sqlite:////studies/mlflow.db"),
        ("http://127.0.0.1:5000/x@y", "http://127.0.0.1:5000/x@y"),
        ("postgresql:///mlflow?user=a&password=s3cret&x=1", "postgresql:///mlflow?user=a&password=***&x=1"),
        ("--set data=/home/me:x@y", "--set data=/home/me:x@y"),
        ("API_KEY=abc TOKEN='q'", "API_KEY=*** TOKEN='q'"),
        ("?access_token=a&client_secret=b&x=1", "?access_token=***&client_secret=***&x=1"),
        ("auth_token=a, refreshToken=b", "auth_token=*** refreshToken=***"),
        ("AWS_SECRET_ACCESS_KEY=a/b secret-key=c", "AWS_SECRET_ACCESS_KEY=*** secret-key=***"),
        ("https://me:pa/ss@host/x", "https://me:***@host/x"),
        ("https://me:p@a/s@s@host", "https://me:***@host"),
        ("https://me:123456/s@host:80/x", "https://me:***@host:80/x"),
        ("http://[::1]:5000/x@y", "http://[::1]:5000/x@y"),
        ("http://host:5000?x=a@b", "http://host:5000?x=a@b"),
        ("examples.max_tokens=20 tokenizer=x", "examples.max_tokens=20 tokenizer=x"),
    ],
)
def test_what_is_masked_and_what_is_left(text: str, left: str) -> None:
    assert redact(text) == left
