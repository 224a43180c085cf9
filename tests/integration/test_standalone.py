"""The server that tests start: it comes back with its data, never outlives whoever wanted it, and fails aloud."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from pymilvus import MilvusClient
from pymilvus.client.connection_manager import ConnectionManager

from tests.integration.standalone import Standalone, StartError

ROOT = Path(__file__).parents[2]


def test_a_server_that_was_killed_comes_back_with_its_data_at_the_same_address(restartable_server: Standalone) -> None:
    uri = restartable_server.uri
    with closing(MilvusClient(uri)) as client:
        client.create_collection("kept", dimension=4)
    restartable_server.kill()
    assert not restartable_server.running
    ConnectionManager.get_instance().close_all()  # pymilvus would go on with the connection that broke
    restartable_server.start()
    assert restartable_server.uri == uri
    with closing(MilvusClient(uri)) as client:
        assert client.list_collections() == ["kept"]


def test_a_server_dies_with_the_process_that_started_it_however_that_ends(milvus_program, tmp_path) -> None:
    code = f"""
        import time
        from pathlib import Path
        from tests.integration.standalone import Standalone
        Standalone(Path({str(milvus_program)!r}), Path({str(tmp_path / "milvus")!r})).start()
        print("started", flush=True)
        time.sleep(600)
    """
    program = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as owner:
        assert owner.stdout.readline() == b"started\n"
        launcher = psutil.Process(int((tmp_path / "milvus" / "pid").read_text()))
        server = [launcher, *launcher.children(recursive=True)]
        owner.kill()
    _, alive = psutil.wait_procs(server, timeout=20)
    assert alive == []
    deadline = time.monotonic() + 20
    while (tmp_path / "milvus").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not (tmp_path / "milvus").exists()


def test_a_program_that_ends_at_once_is_an_error_with_its_last_words(tmp_path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho it is broken; sleep 1; exit 3\n")
    python.chmod(0o755)
    with pytest.raises(StartError, match=r"(?s)its process has ended.*it is broken"):
        Standalone(tmp_path / "bin" / "milvus-server", tmp_path / "milvus").start()
