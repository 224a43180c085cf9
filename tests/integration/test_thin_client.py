"""A worker without torch: the core install alone ingests and searches, with a service that encodes for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.thin import Environment, fresh, sources

LEFT = {
    "width": 320,
    "height": 320,
    "objects": [{"label": "cup", "strokes": [[[20, 140, 120, 40, 20], [60, 60, 260, 260, 60]]]}],
}
MAIN = "import sys; from compsketch_milvus.cli import main; main()"


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The core install, and Milvus Lite."""
    source = sources(tmp_path_factory.mktemp("source"))
    return fresh(tmp_path_factory.mktemp("thin") / "venv", f"{source}[lite]")


@pytest.fixture(scope="module")
def service(thin: Environment) -> Iterator[str]:
    """The address of `compsketch serve`, run where torch is, with the shipped bundle."""
    program = [
        sys.executable,
        "-c",
        MAIN,
        "serve",
        "--port",
        "0",
        "--metrics-port",
        "0",
        "--decode-workers",
        "1",
        "--json",
    ]
    environment = {**os.environ, "COMPSKETCH_RUNTIME": "torch"}
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        ready = json.loads(running.stdout.readline())
        yield f"grpc://127.0.0.1:{ready['port']}"
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos of noise, and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (240, 320, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    (folder / "broken.jpg").write_bytes(b"no photo")
    return folder


def test_it_ingests_searches_and_explains(thin, service, photos, tmp_path) -> None:
    (tmp_path / "left.json").write_text(json.dumps(LEFT))
    where = {"MILVUS_URI": str(tmp_path / "photos.db"), "COMPSKETCH_ENCODER": service, "HOME": str(tmp_path)}
    report = "import atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))"

    def compsketch(*arguments: str) -> tuple[int, dict]:
        code = MAIN.replace("import sys;", f"import sys; {report};")
        done = subprocess.run(
            [thin.python, "-c", code, *arguments, "--json"],
            cwd=tmp_path, env={**os.environ, **where}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stderr.splitlines()[-1] == "False", done.stderr
        return done.returncode, json.loads(done.stdout)

    status, summary = compsketch("ingest", str(photos))
    assert (status, summary["indexed"], len(summary["failed"])) == (1, 3, 1)
    assert "broken.jpg" in summary["failed"][0]["source"]
    status, answer = compsketch("search", str(tmp_path / "left.json"), "--words", "--explain")
    assert (status, len(answer["hits"])) == (0, 3)
    for hit in answer["hits"]:
        assert -1 <= hit["score"] <= 1
    status, checks = compsketch("doctor")
    assert (status, checks["failed"]) == (0, 0)


def test_its_vectors_are_those_of_the_bundle(thin, service, photos) -> None:
    from compsketch_milvus.encoder import connect

    code = (
        "import json, sys\nfrom compsketch_milvus import connect\n"
        f"photos = [{str(photos)!r} + f'/{{n}}.jpg' for n in range(3)]\n"
        "with connect() as encoder: print(json.dumps(encoder.encode_images(photos * 4).tolist()))"
    )
    there = np.array(json.loads(thin.run(code, COMPSKETCH_ENCODER=service)))
    here = connect(runtime="torch").encode_images([photos / f"{number}.jpg" for number in range(3)] * 4)
    np.testing.assert_allclose(there, here, atol=1e-5)


def test_without_a_service_it_says_what_is_missing(thin) -> None:
    code = (
        "from compsketch_milvus import connect\n"
        "try: connect()\nexcept ValueError as error: print(error)"
    )  # fmt: skip
    said = thin.run(code)
    assert 'needs torch, which is not installed: pip install "compsketch-milvus[encoders]"' in said
    assert "or name a service that encodes, grpc://HOST:PORT" in said
