"""The soak: SOAK_SECONDS and SOAK_SEED say for how long and what happens; `make soak` sets them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.integration.conftest import milvus_program
from tests.soak.reporting import faults_of_growth, report, timeline, tracebacks
from tests.soak.soak import Soak

__all__ = ["milvus_program"]

SECONDS = float(os.environ.get("SOAK_SECONDS") or 1800)
SEED = int(os.environ.get("SOAK_SEED") or int.from_bytes(os.urandom(3), "big"))
pytestmark = [pytest.mark.soak, pytest.mark.timeout(SECONDS + 1800)]


def test_nothing_is_lost_and_nothing_doubled_under_kills(milvus_program: Path, toy_encoder, capsys) -> None:
    folder = Path(tempfile.mkdtemp(prefix=f"compsketch-soak-{SEED}-"))
    with capsys.disabled():
        print(f"\nseed {SEED}, {SECONDS:.0f} s of blows, in {folder}", flush=True)
    soak = Soak(folder, milvus_program, toy_encoder, SECONDS, SEED)
    try:
        soak.run()
    finally:
        lines = timeline(folder)
        memory = soak.sampler.by_name()
        found = report(lines, memory) | soak.counts()
        found["violations"] += [*faults_of_growth(memory, found["temporary_files"]), *tracebacks(folder / "logs")]
        (folder / "timeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "report.json").write_text(json.dumps(found, indent=2))
        with capsys.disabled():
            print(json.dumps(found, indent=2))
            print(f"timeline, logs and report: {folder}", flush=True)
    assert found["violations"] == []
    shutil.rmtree(folder)
