"""Spans: where somebody listens, where nobody does, across threads, and what they say of an error."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from encoders import tracing
from encoders.errors import CompsketchError
from encoders.request import carried, request

# --- nobody listens ---


def test_nothing_is_imported_and_nothing_asked_for() -> None:
    code = (
        "import sys\nfrom encoders import tracing\n"
        "import compsketch_milvus.search, compsketch_milvus.aio, compsketch_milvus.ingest, encoders.serving.channel\n"
        "with tracing.span('a', lambda: 1 / 0, carrier={'traceparent': 'x'}, links=[1]) as span:\n"
        "    span.set('a', 1), span.fail('a'), span.rename('b'), tracing.waited('c', 1)\n"
        "assert span is tracing.OFF and tracing.injected() == [] and tracing.trace_id() == ''\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_an_imported_library_alone_listens_to_nothing() -> None:
    assert tracing.span("a", lambda: pytest.fail("asked for")) is tracing.OFF
    assert not tracing.listening()


# --- somebody does ---


def test_a_span_below_another_with_the_id_of_the_request(spans) -> None:
    with request("abc"), tracing.span("outer", {"compsketch.rows": 3}), tracing.span("inner", kind="client"):
        assert len(tracing.trace_id()) == 32
    assert spans.tree() == [("outer", [("inner", [])])]
    outer, inner = spans.all
    assert outer.attributes == {"compsketch.rows": 3, "compsketch.request_id": "abc"}
    assert inner.kind is SpanKind.CLIENT
    assert outer.status.status_code is StatusCode.UNSET


def test_an_error_by_its_type_without_its_words(spans) -> None:
    with suppress(CompsketchError), tracing.span("outer"), tracing.span("inner"):
        raise CompsketchError("photo /home/me/secret.jpg")
    for span in spans.all:
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "CompsketchError")
        assert span.attributes == {"error.type": "CompsketchError"}
        assert span.events == ()
    assert "secret" not in spans.everything()


def test_threads_and_tasks_carry_it(spans) -> None:
    def work() -> None:
        with tracing.span("thread"):
            pass

    async def task() -> None:
        with tracing.span("task"):
            await asyncio.to_thread(work)

    with tracing.span("outer"):
        thread = threading.Thread(target=carried(work))
        asyncio.run(task())
    thread.start()
    thread.join()
    assert spans.tree() == [("outer", [("task", [("thread", [])]), ("thread", [])])]


def test_another_process_goes_on_with_the_trace(spans) -> None:
    with tracing.span("here"):
        carrier = dict(tracing.injected())
    assert carrier["traceparent"].startswith("00-")
    with tracing.span("there", kind="server", carrier=carrier):
        pass
    with tracing.span("nobody's", kind="server", carrier={"traceparent": "00-nonsense"}):
        pass
    assert spans.tree() == [("here", [("there", [])]), ("nobody's", [])]


def test_a_batch_is_linked_to_all_that_it_serves(spans) -> None:
    contexts = []
    for number in range(3):
        with tracing.span(f"request {number}"):
            contexts += [contextvars.copy_context(), contextvars.copy_context()]  # two items each

    def batch() -> None:
        tracing.waited("wait", 2.0)
        with tracing.span("batch", links=[*contexts[1:], contextvars.Context()]):
            pass

    contexts[0].run(batch)
    first, second, third = (span.context for span in spans.all if span.name.startswith("request"))
    (one,), (wait,) = spans.named("batch"), spans.named("wait")
    assert one.parent.span_id == wait.parent.span_id == first.span_id
    assert [link.context for link in one.links] == [second, third]
    assert wait.end_time - wait.start_time == 2_000_000_000


# --- setting it up ---


def started(code: str, **variables: str) -> subprocess.CompletedProcess:
    """A program that sets OpenTelemetry up by these variables."""
    code = f"from encoders import tracing\ntracing.start('ours')\n{code}"
    environment = {"PYTHONWARNINGS": "error", **variables}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


def test_spans_go_where_the_variables_say_and_not_to_standard_output() -> None:
    done = started("with tracing.span('one'): pass", OTEL_TRACES_EXPORTER="console", OTEL_RESOURCE_ATTRIBUTES="team=x")
    assert (done.returncode, done.stdout) == (0, "")
    for said in ('"name": "one"', '"service.name": "ours"', '"team": "x"'):
        assert said in done.stderr


def test_names_and_samplers_of_the_environment_come_first() -> None:
    name = {"OTEL_SERVICE_NAME": "theirs", "OTEL_TRACES_EXPORTER": "console"}
    assert '"service.name": "theirs"' in started("with tracing.span('one'): pass", **name).stderr
    done = started("with tracing.span('one'): pass", OTEL_TRACES_SAMPLER="always_off", **name)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_applications_own_provider_is_kept(spans) -> None:
    tracing.start("ours")
    with tracing.span("one"):
        pass
    assert spans.tree() == [("one", [])]


def test_an_exporter_that_there_is_not(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
    with pytest.raises(CompsketchError, match="no exporter 'carrier-pigeon'; use otlp, with grpc or http/protobuf"):
        tracing.start("ours")


def test_a_missing_library_is_named_with_its_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(CompsketchError, match=r'pip install "compsketch-milvus\[tracing\]"'):
        tracing.start("ours")
