"""What a worker without torch has to install and to import, beside what pymilvus and gRPC take by themselves."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from tests.thin import Environment, fresh, sources

pytestmark = pytest.mark.benchmark

MOST_BYTES = 30e6  # on top of pymilvus, numpy, Pillow and gRPC
MOST_SECONDS = 0.3  # on top of `import pymilvus`
ROUNDS = 7
MOST_BESIDE_NUMPY = 0.05  # seconds, for parts of Python itself
CLIENT = "import encoders.serving.client"


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The core install."""
    source = sources(tmp_path_factory.mktemp("source"))
    return fresh(tmp_path_factory.mktemp("thin") / "venv", str(source))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What no client of Milvus and of gRPC can do without."""
    return fresh(tmp_path_factory.mktemp("base") / "venv", "pymilvus", "numpy", "pillow", "grpcio")


def size(folder: Path) -> int:
    """Bytes in a folder's files."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def seconds(environment: Environment, code: str, after: str = "") -> float:
    """What a piece of Python takes in a fresh interpreter, once its files are in the system's cache: the median.

    Of the processor's time: it does not grow with what else the machine does.
    """
    timed = f"import time\n{after}\nbegan = time.process_time()\n{code}\nprint(time.process_time() - began)"
    return statistics.median([float(environment.run(timed)) for _ in range(ROUNDS + 1)][1:])


def test_what_it_adds_to_site_packages(thin, base) -> None:
    own, before = size(thin.packages), size(base.packages)
    new = {folder.name for folder in thin.packages.iterdir()} - {folder.name for folder in base.packages.iterdir()}
    parts = sorted(((size(thin.packages / name) / 1e6, name) for name in new), reverse=True)
    largest = ", ".join(f"{name} {megabytes:.1f}" for megabytes, name in parts[:8])
    added = own - before
    print(f"\nsite-packages: {before / 1e6:.0f} MB without, {added / 1e6:.1f} MB more")
    print(f"largest: {largest}")
    assert added <= MOST_BYTES


def test_what_importing_it_costs(thin) -> None:
    numpy, client = seconds(thin, "import numpy"), seconds(thin, CLIENT)
    pymilvus, more = seconds(thin, "import pymilvus"), seconds(thin, CLIENT, after="import pymilvus")
    print(
        f"\nimport: numpy {numpy:.3f} s, the client {client:.3f} s; pymilvus {pymilvus:.3f} s, then {more:.3f} s more"
    )
    assert more <= MOST_SECONDS
    assert client - numpy <= MOST_BESIDE_NUMPY
    loaded = "import sys; before = set(sys.modules)\n{}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    beyond = set(thin.run(loaded.format(CLIENT)).split()) - set(thin.run(loaded.format("import numpy")).split())
    assert not {name for name in beyond if (thin.packages / name).exists()} - {"encoders"}
