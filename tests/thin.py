"""A fresh virtual environment with the core install alone, as a worker without torch has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "compsketch_milvus", "encoders")
UNREACHABLE = ("Could not find a version", "No matching distribution", "ConnectionError", "Temporary failure in name")


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Args:
        folder: where it lies.
    """

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return next(self.folder.glob("lib/python3*/site-packages"))

    def run(self, code: str, **variables: str) -> str:
        """What a piece of Python prints there, away from the checkout."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [self.python, "-c", code], cwd=self.folder, env=environment | variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def fresh(folder: Path, *requirements: str) -> Environment:
    """Make one and install into it; skips the test where no package index is reachable."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    made = Environment(folder)
    pip = [sys.executable, "-m", "pip", "--python", made.python, "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *requirements], capture_output=True, text=True)
    if done.returncode and any(words in done.stderr for words in UNREACHABLE):
        pytest.skip(f"no package index is reachable: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return made


def sources(folder: Path) -> Path:
    """A copy of what a wheel is built of: building leaves files beside it."""
    for name in SOURCES:
        source = REPOSITORY / name
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / name, ignore=ignored) if source.is_dir() else shutil.copy(source, folder)
    return folder
