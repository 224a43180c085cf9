"""What the adapters cost those who do not use them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FRAMEWORKS = {"langchain": "langchain_core", "llamaindex": "llama_index"}


def python(code: str) -> str:
    """The last line that a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_no_public_name_loads_a_framework() -> None:
    code = (
        "import sys, compsketch_milvus as c, compsketch_milvus.adapters; [getattr(c, name) for name in c.__all__];"
        "print({name.partition('.')[0] for name in sys.modules} & {'langchain_core', 'llama_index'})"
    )
    assert python(code) == "set()"


@pytest.mark.parametrize("adapter", FRAMEWORKS)
def test_a_missing_framework_is_one_line_that_names_the_extra(adapter: str) -> None:
    code = f"""
import sys
sys.modules[{FRAMEWORKS[adapter]!r}] = None
try:
    import compsketch_milvus.adapters.{adapter}
except ImportError as error:
    print(error)
"""
    said = python(code)
    assert "is not installed" in said
    assert f'pip install "compsketch-milvus[{adapter}]"' in said
