"""The Milvus server that the tests of this folder share, and servers that a test may have to itself.

Which one `milvus_server` is, the first that there is of:

1. MILVUS_TEST_URI, a server that somebody has started. It is not MILVUS_URI, so that no test runs by accident
   against the photos of whoever has that set.
2. docker-compose.yml, where a docker daemon answers (pytest-docker starts it and takes it down).
3. MILVUS_SERVER, or .venv-milvus, which `make milvus` makes: PyPI's milvus 2.3.5, one server for the whole run,
   however many processes pytest runs.

Where there is none the tests skip, and say so. What is there and does not start makes them fail.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.standalone import Standalone, StartError

ROOT = Path(__file__).parents[2]
ABSENT = "no Milvus server: no MILVUS_TEST_URI, no docker daemon answers, no MILVUS_SERVER and no `make milvus`"


def docker_answers() -> bool:
    """Whether there is docker and its daemon runs."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=30).returncode == 0


@pytest.fixture(scope="session")
def milvus_program() -> Path:
    """The path of `milvus-server`."""
    named = os.environ.get("MILVUS_SERVER")
    program = Path(named).expanduser().absolute() if named else ROOT / ".venv-milvus" / "bin" / "milvus-server"
    if not program.is_file():
        (pytest.fail if named else pytest.skip)(f"MILVUS_SERVER is {named}, which is no file" if named else ABSENT)
    return program


@pytest.fixture(scope="session")
def milvus_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a running server, its password included where it asks for one."""
    if given := os.environ.get("MILVUS_TEST_URI"):
        return given
    if docker_answers():
        return request.getfixturevalue("composed_server")
    return _shared(request.getfixturevalue("milvus_program"), tmp_path_factory)


def _shared(program: Path, temporary: pytest.TempPathFactory) -> str:
    """The run's one standalone server: started by the first process of pytest that comes, found by the others."""
    one_of_several = "PYTEST_XDIST_WORKER" in os.environ
    folder = temporary.getbasetemp().parent if one_of_several else temporary.getbasetemp()
    with (folder / "milvus.json").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state = json.loads(file.read() or "{}")
        if not state:
            server = Standalone(program, folder / "milvus", owner=os.getppid() if one_of_several else os.getpid())
            try:
                server.start()
                state = {"uri": server.uri}
            except StartError as error:
                state = {"error": str(error)}
            json.dump(state, file)
    if "error" in state:
        pytest.fail(state["error"])
    return str(state["uri"])


@pytest.fixture
def restartable_server(milvus_program: Path, tmp_path: Path) -> Iterator[Standalone]:
    """A running server of this test's own: `kill()` it and `start()` it again, on the same data and port."""
    server = Standalone(milvus_program, tmp_path / "milvus")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def auth_server(milvus_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """A running server that asks for a password; `token` is its administrator's."""
    server = Standalone(milvus_program, tmp_path_factory.mktemp("auth") / "milvus", token="root:Milvus")
    server.start()
    yield server
    server.kill()


# --- docker-compose.yml; the names of these fixtures are pytest-docker's ---


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(ROOT / "docker-compose.yml")


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    return "docker compose --profile cpu"


@pytest.fixture(scope="session")
def compose_password() -> Iterator[str]:
    """The administrator's password, in the environment that docker compose reads; and a port that is free."""
    password = secrets.token_hex(16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILVUS_PASSWORD", password)
        patch.setenv("MINIO_PASSWORD", secrets.token_hex(16))
        patch.setenv("MILVUS_PORT", "")
        patch.setenv("ATTU_PORT", "")
        yield password


@pytest.fixture(scope="session")
def composed_server(compose_password: str, request: pytest.FixtureRequest) -> str:
    """The address of docker-compose.yml's Milvus, with its administrator's password."""
    services = request.getfixturevalue("docker_services")  # after the environment is set
    port = services.port_for("standalone", 19530)
    uri = f"http://root:{compose_password}@{request.getfixturevalue('docker_ip')}:{port}"
    services.wait_until_responsive(timeout=240, pause=2, check=lambda: _answers(uri))
    return uri


def _answers(uri: str) -> bool:
    from pymilvus import MilvusClient

    try:
        with closing(MilvusClient(uri, timeout=5)) as client:
            client.get_server_version()
    except Exception:  # whatever a server that is still starting makes pymilvus raise
        return False
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file in one process, for its servers; and all that docker serves: two would start the same project."""
    composed = not os.environ.get("MILVUS_TEST_URI") and docker_answers()
    for item in items:
        served = {"milvus_server", "composed_server"} & set(getattr(item, "fixturenames", ()))
        item.add_marker(pytest.mark.xdist_group("docker" if composed and served else item.path.stem))
