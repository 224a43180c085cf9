"""A second service, for clients of several."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.encoders.serving.servicer import Service, running


@pytest.fixture
def other(toy) -> Iterator[Service]:
    """A second server, of an encoder of its own."""
    with running(toy.JudgingEncoder()) as service:
        yield service
