"""Bearer tokens: several, of names, from a file that changes under way."""

from __future__ import annotations

import logging
import os

import pytest

from encoders.errors import CompsketchError
from encoders.serving.tokens import Tokens

OLD, NEW, OTHER = "old-token-0123456789", "new-token-0123456789", "other-token-012345678"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# who may encode\ningest {OLD}\n\nsearch {OTHER}\n")
    return path


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_token_has_a_name(file):
    tokens = Tokens(file)
    assert tokens.name(f"Bearer {OLD}") == "ingest"
    assert tokens.name(f"bearer  {OTHER} ") == "search"


@pytest.mark.parametrize(
    "header", ["", OLD, "Bearer", "Bearer ", f"Basic {OLD}", f"Bearer {OLD}x", f"Bearer {OLD[:-1]}", "Bearer \udcff"]
)
def test_anything_else_has_none(file, header):
    assert Tokens(file).name(header) is None


def test_tokens_rotate_without_a_restart(file, clock):
    tokens = Tokens(file, every=1.0, clock=clock)
    file.write_text(f"ingest {OLD}\ningest {NEW}\n")  # both, while clients change over
    assert tokens.name(f"Bearer {NEW}") is None  # it has not looked yet
    clock.now = 1.0
    assert [tokens.name(f"Bearer {token}") for token in (OLD, NEW, OTHER)] == ["ingest", "ingest", None]
    replacement = file.with_name("next")
    replacement.write_text(f"ingest {NEW}\n")
    os.replace(replacement, file)
    clock.now = 2.0
    assert [tokens.name(f"Bearer {token}") for token in (OLD, NEW)] == [None, "ingest"]


def test_a_file_that_breaks_leaves_the_tokens_and_the_log_says_so(file, clock, caplog):
    tokens = Tokens(file, clock=clock)
    for step, change in enumerate([lambda: file.write_text("ingest\n"), file.unlink], 1):
        change()
        clock.now = float(step)
        with caplog.at_level(logging.WARNING):
            assert tokens.name(f"Bearer {OLD}") == "ingest"
        assert "what it was before stays" in caplog.text
        assert OLD not in caplog.text
        caplog.clear()
    file.write_text(f"ingest {NEW}\n")
    clock.now = 3.0
    assert tokens.name(f"Bearer {NEW}") == "ingest"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no tokens, so nobody could call"),
        (b"# nothing\n", "has no tokens"),
        (f"a {OLD}\nsecret-secret-secret\n".encode(), "line 2: expected a name and a token"),
        (b"a short-secret\n", "line 1: expected a name and a token of 16 characters"),
        (f"a {OLD} # mine\n".encode(), "line 1"),
        (f"a {OLD}\nb {OLD}\n".encode(), "line 2: two names have this token"),
        (b"\xff\xfe", "no UTF-8 text"),
        (b"x" * ((1 << 20) + 1), "more than 1048576 bytes"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_without_its_secrets(tmp_path, content, says):
    path = tmp_path / "tokens"
    path.write_bytes(content)
    with pytest.raises(CompsketchError, match=says) as caught:
        Tokens(path)
    assert "secret" not in str(caught.value)
    assert OLD not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CompsketchError, match="nowhere' cannot be read"):
        Tokens(tmp_path / "nowhere")
