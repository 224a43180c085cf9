"""Small matrix products on one thread.

OpenBLAS, which numpy brings, gives each product to all cores, and its threads spin while they wait for each other and
for the next one. Beside networks that use the same cores that costs ten times what the product of a batch's embeddings
takes on one: on 2 busy cores a fifth of encoding photos in batches, and two thirds of encoding one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]

# The number of threads is the process's: two that set it at once could leave it changed.
_lock = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep numpy's matrix products to the calling thread meanwhile; others who ask for that wait for their turn."""
    with _lock, _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
