"""Pieces of Python run in processes of their own, for what cannot be undone in this one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def run_python(code: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    """Run a piece of Python in a process of its own, with this repository to import from."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, **options)
