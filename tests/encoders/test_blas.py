"""Products on one thread: for as long as asked, and whoever else asks for it at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from encoders.blas import one_thread
from encoders.projection import FEW, Projection


def threads() -> set[int]:
    """How many threads each BLAS library of this process uses."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blas_has_one_thread_meanwhile_and_those_it_had_afterwards() -> None:
    with threadpool_limits(3, user_api="blas"):
        before = threads()
        with one_thread():
            assert threads() == {1}
        assert threads() == before


def test_several_at_once_leave_the_number_as_it_was() -> None:
    projection = Projection(np.ones((4, 8), np.float32), np.zeros(4, np.float32))
    batch = np.ones((FEW, 8), np.float32)
    with threadpool_limits(3, user_api="blas"), ThreadPoolExecutor(8) as pool:
        before = threads()
        for _ in range(20):
            list(pool.map(lambda _: projection.apply(batch), range(8)))
        assert threads() == before
