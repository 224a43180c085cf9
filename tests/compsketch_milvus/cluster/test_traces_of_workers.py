"""Spans of an ingest on Ray, out of all its processes: one trace, under one id."""

from __future__ import annotations

import os
import subprocess
import sys

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.compsketch_milvus.collector import collector
from tests.compsketch_milvus.processes import REPOSITORY

INGEST = """
import sys
from compsketch_milvus import cluster
from tests.toy import ToyEncoder

cluster.ingest(sys.argv[1], uri=sys.argv[2], encoder=ToyEncoder, batch_size=4)
"""


def test_the_workers_spans_are_of_the_ingests_trace(photos, tmp_path):
    with collector() as (received, variables):
        ran = subprocess.run(
            [sys.executable, "-c", INGEST, photos, tmp_path / "ray.db"],
            env={**os.environ, **variables, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert ran.returncode == 0, ran.stderr
    spans = [
        span
        for message in received
        for resource in ExportTraceServiceRequest.FromString(message).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    (root,) = [span for span in spans if span.name == "compsketch ingest"]
    parts = {span.name for span in spans if span.parent_span_id == root.span_id}
    assert parts >= {"ingest open", "ingest compare", "ingest decode", "ingest encode", "ingest write", "ingest finish"}
    ours = [span for span in spans if span.trace_id == root.trace_id]
    assert {"encode photos", "upsert photos"} <= {span.name for span in ours}
    told = {pair.value.string_value for span in ours for pair in span.attributes if "request_id" in pair.key}
    assert len(told) == 1
