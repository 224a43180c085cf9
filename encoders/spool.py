"""Embeddings on the disk instead of in memory, for as long as something is fitted on them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from encoders.errors import CompsketchError
from encoders.moments import Floats

__all__ = ["spooled"]


def spooled(blocks: Iterable[Floats], features: int) -> np.ndarray:
    """Write blocks (B, F) to a file as they come and map it: (N, F) float16, of which memory holds what is being read.

    The file is in the folder of temporary files (TMPDIR) and has no name: it goes with the last reference to the array,
    or with the process, whatever way that ends. It takes 2 F bytes a photo, 12.5 KB with the shipped bundle. What does
    not fit into half precision becomes infinite.

    Args:
        blocks: read once.
        features: F.

    Raises:
        CompsketchError: the disk refuses.
    """
    where = tempfile.gettempdir()
    with ExitStack() as stack:
        with _disk(where):
            file = stack.enter_context(tempfile.TemporaryFile(dir=where))
        for block in blocks:
            with np.errstate(over="ignore"):
                half = np.ascontiguousarray(block, np.float16)
            with _disk(where):
                file.write(half.data)
        with _disk(where):
            file.flush()
            if file.tell():
                return np.memmap(file, np.float16, "r").reshape(-1, features)
    return np.zeros((0, features), np.float16)


@contextmanager
def _disk(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CompsketchError(
            f"{where}: embeddings cannot be kept there while fitting ({error.strerror or error}); free space, set "
            "TMPDIR to a folder that has more, or fit on fewer photos"
        ) from error
