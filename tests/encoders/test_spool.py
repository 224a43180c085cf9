"""Embeddings kept on the disk while something is fitted on them."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from encoders.errors import CompsketchError
from encoders.spool import spooled

X = np.random.default_rng(0).normal(size=(100, 30)).astype(np.float32)


def opened(folder: Path) -> list[str]:
    """Files below a folder that this process has mapped, with or without a name."""
    with open("/proc/self/maps") as maps:
        return [line for line in maps if str(folder) in line]


def test_blocks_are_one_array_in_half_precision() -> None:
    found = spooled(np.array_split(X, 7), 30)
    assert (found.shape, found.dtype, isinstance(found, np.memmap)) == ((100, 30), np.float16, True)
    assert np.array_equal(found, X.astype(np.float16))
    assert spooled([], 30).shape == (0, 30)
    assert np.isinf(spooled([X * 1e6], 30)).any()


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="looks up in /proc what is mapped")
def test_the_file_goes_with_the_array(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = spooled([X], 30)
    assert list(tmp_path.iterdir()) == []
    assert len(opened(tmp_path)) == 1
    del found
    gc.collect()
    assert opened(tmp_path) == []


def test_a_disk_that_refuses_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(CompsketchError, match=r"none: embeddings cannot be kept there .*No such file.*set TMPDIR"):
        spooled([X], 30)


def test_errors_of_the_blocks_are_their_own() -> None:
    def blocks():
        yield X
        raise OSError("the photo is gone")

    with pytest.raises(OSError, match="the photo is gone"):
        spooled(blocks(), 30)
