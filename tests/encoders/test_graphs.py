"""Batches of any size on networks of fixed sizes: padded, cut, and put together again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from encoders.graphs import SIZES, CudaGraph, Graphs
from encoders.runtimes import compile_module


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()).eval()


def captured(calls: list[int]) -> Callable[[int], Callable[[np.ndarray], np.ndarray]]:
    """The network on the CPU, which takes the rows it was made for and no others."""
    module = network()

    def capture(size: int) -> Callable[[np.ndarray], np.ndarray]:
        def run(batch: np.ndarray) -> np.ndarray:
            assert len(batch) == size
            calls.append(size)
            with torch.inference_mode():
                return module(torch.from_numpy(batch)).numpy()

        return run

    return capture


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(1, [1]), (2, [2]), (3, [4]), (16, [16]), (33, [64]), (64, [64]), (65, [64, 1]), (150, [64] * 2 + [32])],
)
def test_a_batch_is_padded_to_the_next_size_and_its_rows_are_the_networks(rows: int, sizes: list[int]) -> None:
    batch = np.random.default_rng(0).normal(size=(rows, 3, 6, 6)).astype(np.float32)
    calls: list[int] = []
    output = Graphs(captured(calls))(batch)
    assert calls == sizes
    with torch.inference_mode():
        assert np.allclose(output, network()(torch.from_numpy(batch)).numpy(), atol=1e-6)


def test_each_size_is_captured_once() -> None:
    made: list[int] = []

    def capture(size: int) -> Callable[[np.ndarray], np.ndarray]:
        made.append(size)
        return lambda batch: batch

    graphs = Graphs(capture)
    for rows in (3, 4, 1, 2, 4):
        graphs(np.zeros((rows, 2), np.float32))
    assert made == [4, 1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_agrees_with_float32_torch() -> None:
    module, device = network().cuda(), torch.device("cuda")
    batch = np.random.default_rng(0).normal(size=(5, 3, 6, 6)).astype(np.float32)
    graphs = Graphs(lambda size: CudaGraph(module, batch, device, size))
    with torch.inference_mode():
        expected = module(torch.from_numpy(batch).cuda()).cpu().numpy()
    assert np.allclose(graphs(batch), expected, atol=1e-3)
    runtime = compile_module(network(), batch, device="cuda")
    assert f"as CUDA graphs of up to {SIZES[-1]} rows" in runtime.reason
    assert np.allclose(runtime(batch), expected, atol=1e-2)
