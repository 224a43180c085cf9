"""A network on a GPU as CUDA graphs of a few batch sizes: one replay a call, in place of a launch for every layer.

At a few rows a trunk's hundred small kernels take longer to launch than to run. A batch is padded to the next size;
rows do not depend on each other, so padding changes nothing.

What chooses sizes and pads is tested everywhere; `CudaGraph` is written by the book and was not run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np
import torch
from torch import Tensor

SIZES = (1, 2, 4, 8, 16, 32, 64)
WARM = 3  # runs before a capture: libraries choose their kernels and take their workspaces


class Graphs:
    """Runs batches of any number of rows on networks of fixed sizes, from any thread.

    Args:
        capture: Makes the network of a size, which is called with so many rows.
        sizes: What there may be, in rising order; each is made when it is first needed.
    """

    def __init__(
        self, capture: Callable[[int], Callable[[np.ndarray], np.ndarray]], sizes: tuple[int, ...] = SIZES
    ) -> None:
        self._capture, self._sizes = capture, sizes
        self._made: dict[int, Callable[[np.ndarray], np.ndarray]] = {}
        self._lock = Lock()  # buffers are shared by all calls of a size

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """(B, ...) to the network's (B, ...), for any B >= 1."""
        most = self._sizes[-1]
        with self._lock:
            return np.concatenate([self._run(batch[start : start + most]) for start in range(0, len(batch), most)])

    def _run(self, piece: np.ndarray) -> np.ndarray:
        size = next(size for size in self._sizes if size >= len(piece))
        if size not in self._made:
            self._made[size] = self._capture(size)
        return self._made[size](_padded(piece, size))[: len(piece)]


class CudaGraph:
    """One captured size, between pinned buffers.

    Args:
        network: Takes (size, ...) on the GPU, returns one tensor of as many rows.
        example: A batch of any number of rows, for their shape and type.
        device: The GPU.
        size: Rows.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], example: np.ndarray, device: torch.device, size: int
    ) -> None:
        self._device = device
        self._from = torch.from_numpy(_padded(example[:1], size)).pin_memory()
        self._input = self._from.to(device)
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.inference_mode(), torch.cuda.device(device), torch.cuda.stream(aside):
            for _ in range(WARM):
                network(self._input)
            aside.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # Other threads may use the GPU meanwhile.
            with torch.cuda.graph(self._graph, stream=aside, capture_error_mode="thread_local"):
                self._output = network(self._input)
        self._answer = torch.empty(self._output.shape, dtype=self._output.dtype, pin_memory=True)

    @torch.inference_mode()
    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """(size, ...) to an array of the caller's own."""
        self._from.copy_(torch.from_numpy(batch))
        with torch.cuda.device(self._device):
            self._input.copy_(self._from, non_blocking=True)
            self._graph.replay()
            self._answer.copy_(self._output, non_blocking=True)
            torch.cuda.current_stream().synchronize()
        array: np.ndarray = self._answer.numpy().copy()
        return array


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """As many rows as `size`; the last one again where there are fewer. Contiguous, and may be written to."""
    indices = np.minimum(np.arange(size), len(rows) - 1)
    return rows[indices]
