"""What an import costs: none of the heavy libraries before they are used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import compsketch_milvus

REPOSITORY = Path(__file__).parents[2]
HEAVY = ["torch", "pymilvus", "grpc", "pandas", "PIL", "numpy", "pydantic"]


def loaded_after(code: str) -> set[str]:
    """Which heavy libraries a fresh interpreter has loaded after a piece of Python."""
    code = f"import json, sys\n{code}\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_package_alone_loads_none_of_them() -> None:
    assert loaded_after("import compsketch_milvus") == set()


@pytest.mark.parametrize("name", sorted(set(compsketch_milvus.__all__) - {"__version__"}))
def test_no_public_name_loads_torch_or_pymilvus(name) -> None:
    assert not loaded_after(f"from compsketch_milvus import {name}") & {"torch", "pymilvus", "grpc"}


def test_every_public_name_is_there() -> None:
    assert dir(compsketch_milvus) == sorted(compsketch_milvus.__all__)
    for name in compsketch_milvus.__all__:
        assert getattr(compsketch_milvus, name)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sketches'"):
        _ = compsketch_milvus.Sketches
