"""The runtime that `compile_module` picks against all others on this machine, for the three networks of an encoder.

Run with `pytest -m benchmark -s tests/benchmarks/test_runtimes.py`; only ratios of one run are worth anything.
"""

import importlib.util
import shutil
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from encoders.fusing import fuse_conv_bn
from encoders.runtimes import compile_module

Run = Callable[[np.ndarray], np.ndarray]
ROUNDS, FLOOR = 41, 0.9
WARM = 3  # rounds that do not count


def _networks() -> object:
    """The networks of the agreement test, which is no package to import from."""
    path = Path(__file__).parents[1] / "encoders" / "test_runtimes.py"
    spec = importlib.util.spec_from_file_location("runtime_networks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _torch_run(module: nn.Module) -> Run:
    def run(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(batch)).numpy()

    return run


def _channels_last(module: nn.Module) -> Run:
    def run(batch: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(batch)
        with torch.inference_mode():
            x = x.contiguous(memory_format=torch.channels_last) if x.dtype == torch.float32 else x
            return module(x).contiguous().numpy()

    module.to(memory_format=torch.channels_last)
    return run


def _onnx(module: nn.Module, batch: np.ndarray, folder: Path) -> Run:
    onnxruntime = pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.from_numpy(batch),), str(folder / "m.onnx"), dynamo=False, input_names=["x"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(folder / "m.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def _openvino(module: nn.Module, batch: np.ndarray) -> Run:
    """As its documentation has it: convert, static shape, compile for latency."""
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(module, example_input=(torch.from_numpy(batch),), input=[list(batch.shape)])
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    request = openvino.compile_model(model, "CPU", hints).create_infer_request()
    return lambda x: request.infer([x])[0].copy()


def _contenders(make: Callable[[], nn.Module], batch: np.ndarray, folder: Path) -> dict[str, Run]:
    example = torch.from_numpy(batch)
    contenders = {
        "eager": _torch_run(make()),
        "channels_last": _channels_last(make()),
        "fused": _channels_last(fuse_conv_bn(make(), example)),
        "onnxruntime": _onnx(make(), batch, folder),
    }
    if importlib.util.find_spec("openvino"):
        contenders["openvino"] = _openvino(make(), batch)
    if shutil.which("g++") or shutil.which("clang++"):
        contenders["torch.compile"] = _channels_last(torch.compile(fuse_conv_bn(make(), example), dynamic=False))
    return contenders


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore")  # of compilers and exporters that only this file runs
@pytest.mark.parametrize(("name", "rows"), [("image", 16), ("sketch", 3), ("spatial", 1)])
def test_the_picked_runtime_is_the_fastest(name: str, rows: int, tmp_path: Path) -> None:
    networks = _networks()
    module, batch = networks.network(name)  # type: ignore[attr-defined]
    batch = np.resize(batch, (rows, *batch.shape[1:]))
    picked = compile_module(module, batch, threads=torch.get_num_threads(), sizes=(rows,) if rows <= 3 else ())
    runs = {"picked": picked, **_contenders(lambda: networks.network(name)[0], batch, tmp_path)}  # type: ignore[attr-defined]
    seconds: dict[str, list[float]] = {label: [] for label in runs}
    for turn in range(ROUNDS + WARM):  # interleaved, so that a busy minute hits all alike
        for label, run in runs.items():
            start = time.perf_counter()
            run(batch)
            if turn >= WARM:
                seconds[label].append(time.perf_counter() - start)
    median = {label: statistics.median(values) for label, values in seconds.items()}
    print(f"\n{name}, batch {rows}, {torch.get_num_threads()} threads; picked: {picked.reason}")
    for label, value in sorted(median.items(), key=lambda item: item[1]):
        rate = median["picked"] / value
        print(f"  {label:14} {1e3 * value:8.1f} ms {rows / value:8.0f} rows/s  {rate:6.2f} x the picked one's rate")
    fastest = min(value for label, value in median.items() if label != "picked")
    assert fastest / median["picked"] >= FLOOR
