"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# A shell that runs the tests in the background has them ignore Ctrl-C, and the programs they start would do the same.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_spec = importlib.util.spec_from_file_location("toy", Path(__file__).with_name("toy.py"))


@pytest.fixture(autouse=True)
def _no_handler_of_a_closed_stream() -> Iterator[None]:
    """A command run in this process logs to what is its standard error then, which pytest closes after the test."""
    yield
    for name in ("compsketch_milvus", "encoders"):
        logging.getLogger(name).handlers.clear()


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Four photos, the n-th dark in the n-th quarter from the left."""
    for number in range(4):
        pixels = np.full((32, 32, 3), 255, np.uint8)
        pixels[:, 8 * number : 8 * number + 8] = 0
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return [str(tmp_path / f"{number}.png") for number in range(4)]


@pytest.fixture
def toy():
    """The module of small true encoders."""
    module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy_encoder(toy):
    """A small deterministic encoder without torch; ``toy_encoder.batches`` counts its calls."""
    return toy.ToyEncoder()


@pytest.fixture
def judging_encoder(toy):
    """The same, which also explains its scores and knows what they mean."""
    return toy.JudgingEncoder()


@pytest.fixture
def service(judging_encoder):
    """`judging_encoder` served on this machine, with faults on request; see `servicer.Service`."""
    from tests.encoders.serving.servicer import running

    with running(judging_encoder) as service:
        yield service


@pytest.fixture
def spans(monkeypatch):
    """OpenTelemetry set up as an application would: what it heard, as `tests.spans.Heard`."""
    from tests.spans import Heard

    heard = Heard()
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: heard.provider)
    yield heard
    heard.provider.shutdown()
