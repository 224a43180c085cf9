"""Runs a network on numpy batches, as fast as the machine can: a torch module in, a function from array to array out.

What an encoder computes is its bundle's affair, how fast a runtime's: a runtime changes no fingerprint and must agree
with float32 torch (cosine >= .999). On a CPU OpenVINO is worth a factor of 3 to 6 over a plain torch loop, half of it
from bfloat16 on a processor that is faster with it; on a GPU torch runs in half precision, as CUDA graphs. `reason`
says what runs, and why.

Pixels go in as they are decoded, uint8 (B, H, W, 3): put `Normalise` in front of a trunk, so that scaling them is part
of the compiled graph.
"""

import importlib.util
import math
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from encoders.errors import CompsketchError
from encoders.fusing import fuse_conv_bn, round_to_bf16
from encoders.graphs import SIZES, CudaGraph, Graphs

KINDS = ("torch", "openvino")
PRECISIONS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
TRIALS = 20  # calls of a millisecond that tell which precision is faster
_INSTALL = "pip install 'compsketch-milvus[encoders]'"


class Normalise(nn.Module):
    """uint8 pixels as decoded, (B, H, W, C) in 0..255, to a network's input, (B, C, H, W): (x / 255 - mean) / std."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Takes C values each, for pixels in 0..1, as `encoders.backbones.Spec` has them."""
        super().__init__()
        offset, spread = torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)
        # Buffers, so that they follow the module's precision and device, but no part of its weights.
        self.register_buffer("scale", 1 / (255 * spread), persistent=False)
        self.register_buffer("shift", -offset / spread, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns (B, C, H, W) in the module's precision; the memory keeps the pixels' order (channels_last)."""
        return pixels.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift


class Runtime(ABC):
    """A compiled network: call it with a batch (B, ...) like its example, of any B, from any thread.

    Attributes:
        kind: "torch" or "openvino".
        device: Where it runs, as torch names it.
        precision: What it computes in: "f32", "bf16" or "f16".
        reason: One line for people: what runs, in which precision, and why this one.
        output_shape: Shape of one row of the output.
    """

    kind: str

    def __init__(self, device: str, precision: str, reason: str, example: np.ndarray) -> None:
        """Runs twice the example once, which warms up and shows the output's shape."""
        self.device = device
        self.precision = precision
        self.reason = reason
        self._row = example.shape[1:]
        self._dtype = example.dtype
        probe = self._run(np.concatenate([example, example]))
        if len(probe) != 2 * len(example):  # the number of rows was taken for a constant while tracing
            raise RuntimeError(
                f"the module returned {len(probe)} rows for {2 * len(example)}: not a network of batches"
            )
        self.output_shape: tuple[int, ...] = probe.shape[1:]

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Returns the network's output, (B, *output_shape) float32, an array of the caller's own.

        Args:
            batch: (B, ...) with the example's dtype and row shape; B = 0 gives an empty array.

        Raises:
            CompsketchError: The dtype or the row shape is another than the example's.
        """
        if batch.dtype != self._dtype or batch.shape[1:] != self._row:
            expected = f"{self._dtype} (B, {', '.join(map(str, self._row))})"
            raise CompsketchError(f"the network takes {expected}, not {batch.dtype} {batch.shape}")
        if len(batch) == 0:
            return np.empty((0, *self.output_shape), np.float32)
        return self._run(batch)

    @abstractmethod
    def _run(self, batch: np.ndarray) -> np.ndarray: ...


def compile_module(
    module: nn.Module,
    example: np.ndarray,
    runtime: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
    precision: str | None = None,
    sizes: tuple[int, ...] = (),
) -> Runtime:
    """Compiles a network of one input and one output for inference; the module itself is left alone.

    Args:
        module: Takes a batch like `example`, returns one tensor of as many rows.
        example: A batch (B, ...) uint8 or float32 of any B >= 1; all but B is fixed by it.
        runtime: "torch", "openvino", or "auto": OpenVINO on a CPU where it is installed, torch elsewhere.
        device: "cpu" or a CUDA device as torch names it.
        threads: CPU threads for one call; by default $OMP_NUM_THREADS, and without it what the runtime thinks best.
            torch has one count for the whole process.
        precision: "f32", "bf16" or "f16"; by default half on a GPU, what is faster on this CPU for OpenVINO, and
            float32 for torch on a CPU.
        sizes: Numbers of rows that calls often have. OpenVINO, which works out shapes on each call (an eighth of the
            time of three sketches), compiles the network for each of them too; torch has no use for it.

    Raises:
        CompsketchError: A runtime, device, precision or number of threads that does not exist here.
    """
    if example.dtype not in (np.uint8, np.float32) or len(example) == 0:
        raise CompsketchError(
            f"an example is uint8 or float32 of at least one row, not {example.dtype} {example.shape}"
        )
    if precision is not None and precision not in PRECISIONS:
        raise CompsketchError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    place = find_device(device)
    threads = _threads(threads)
    has_openvino = importlib.util.find_spec("openvino") is not None
    kind, why = choose(runtime, place.type, has_openvino)
    if kind == "openvino":
        return _OpenVino(module, example, threads, precision, why, sizes)
    return _Torch(module, example, place, threads, precision, why)


def choose(asked: str, device: str, has_openvino: bool) -> tuple[str, str]:
    """Picks the kind of runtime.

    Args:
        asked: A kind, or "auto".
        device: "cpu" or "cuda".
        has_openvino: Whether it is installed.

    Returns:
        The kind, and why, as the end of a sentence.

    Raises:
        CompsketchError: The kind is unknown, not installed, or does not run on the device.
    """
    if asked == "auto":
        if device != "cpu":
            return "torch", "the device is a GPU"
        if has_openvino:
            return "openvino", "it is installed, and the fastest on CPUs"
        return "torch", f"openvino, which is several times faster on CPUs, is not installed ({_INSTALL})"
    if asked not in KINDS:
        raise CompsketchError(f"runtime={asked!r} is no runtime; choose one of auto, {', '.join(KINDS)}")
    if asked == "openvino" and device != "cpu":
        raise CompsketchError(f"runtime=openvino runs on the CPU only, not on {device}; choose torch, or device cpu")
    if asked == "openvino" and not has_openvino:
        raise CompsketchError(f"runtime=openvino, but openvino is not installed; {_INSTALL}, or choose torch")
    return asked, f"runtime={asked} was asked for"


def find_device(name: str) -> torch.device:
    """The device of a name: "cpu", "cuda" or "cuda:N".

    Raises:
        CompsketchError: There is none of that name here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CompsketchError(f"unknown device {name!r}; choose cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise CompsketchError(f"device {name!r} is not supported; choose cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CompsketchError(f"device {name!r}, but torch sees {torch.cuda.device_count()} CUDA devices; choose cpu")
    return device


def _threads(asked: int | None) -> int | None:
    value = os.environ.get("OMP_NUM_THREADS") if asked is None else str(asked)
    if not value:
        return None
    first = value.split(",")[0]  # OpenMP allows one number a nesting level
    if not first.strip().isdecimal() or int(first) < 1:
        source = "OMP_NUM_THREADS" if asked is None else "threads"
        raise CompsketchError(f"{source}={value} is no number of threads; give an integer from 1")
    return int(first)


class _Torch(Runtime):
    """torch with batch norms folded away and channels_last; half precision, pinned copies and CUDA graphs on a GPU.

    The GPU's path is written by the book and was not run.
    """

    kind = "torch"

    def __init__(
        self,
        module: nn.Module,
        example: np.ndarray,
        device: torch.device,
        threads: int | None,
        precision: str | None,
        why: str,
    ) -> None:
        precision = precision or ("f16" if device.type == "cuda" else "f32")
        if threads is not None and device.type == "cpu":
            torch.set_num_threads(threads)
        self._place = device
        self._type = PRECISIONS[precision]
        fused = _prepare(module, example, precision)
        fused = fused.to(device=device, dtype=self._type)
        self._module = fused.to(memory_format=torch.channels_last)
        self._graphs: Graphs | None = None
        if device.type == "cpu":
            place = f"{torch.get_num_threads()} threads"
        else:
            place = torch.cuda.get_device_name(device)
            why = f"{why}; {self._capture(example)}"
        reason = f"torch {torch.__version__} ({precision}, {place}): {why}"
        super().__init__(str(device), precision, reason, example)

    def _capture(self, example: np.ndarray) -> str:
        """Takes CUDA graphs if they work here; in words, which."""
        graphs = Graphs(partial(CudaGraph, self._forward, example, self._place))
        try:
            graphs(example)
        except RuntimeError as error:
            return f"without CUDA graphs, which fail here: {error}"
        self._graphs = graphs
        return f"as CUDA graphs of up to {SIZES[-1]} rows"

    @torch.inference_mode()
    def _run(self, batch: np.ndarray) -> np.ndarray:
        if self._graphs is not None:
            return self._graphs(batch)
        # torch shares the array's memory, and wants to be allowed to write there even where it does not.
        x = torch.from_numpy(np.require(batch, requirements=("C", "W")))
        if self._place.type == "cuda":  # pinned memory is copied while the GPU still works on what came before
            x = x.pin_memory().to(self._place, non_blocking=True)
        array: np.ndarray = self._forward(x).cpu().numpy()
        return array

    def _forward(self, x: Tensor) -> Tensor:
        """(B, ...) where the network is to its output in float32."""
        if x.is_floating_point():
            x = x.to(self._type)
            x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        output: Tensor = self._module(x)
        return output.float().contiguous()


class _OpenVino(Runtime):
    """OpenVINO on the CPU, tuned for the latency of one call, with the number of rows left open."""

    kind = "openvino"

    def __init__(
        self,
        module: nn.Module,
        example: np.ndarray,
        threads: int | None,
        precision: str | None,
        why: str,
        sizes: tuple[int, ...],
    ) -> None:
        import openvino

        core = _core()
        precision = precision or _quicker(threads)
        hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        if threads is not None:
            hints["INFERENCE_NUM_THREADS"] = threads
        model = _to_openvino(_prepare(module, example, precision), example)
        (port,) = model.inputs
        self._compiled = {0: core.compile_model(model, "CPU", hints)}  # by rows; 0 takes any
        for rows in sizes:
            model.reshape({port: [rows, *example.shape[1:]]})
            self._compiled[rows] = core.compile_model(model, "CPU", hints)
        # Requests that no call is using: one a thread at most.
        self._idle: dict[int, deque[Any]] = {rows: deque() for rows in self._compiled}
        used = self._compiled[0].get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != precision:
            raise CompsketchError(f"OpenVINO cannot compute in {precision} on this CPU; choose {used}, or none")
        cores = self._compiled[0].get_property("INFERENCE_NUM_THREADS")
        reason = f"openvino {openvino.__version__.split('-')[0]} ({used}, {cores} threads): {why}"
        super().__init__("cpu", used, reason, example)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        rows = len(batch) if len(batch) in self._compiled else 0
        try:
            request = self._idle[rows].pop()
        except IndexError:
            request = self._compiled[rows].create_infer_request()
        try:
            (output,) = request.infer([np.ascontiguousarray(batch)], share_inputs=True, share_outputs=True).values()
            return np.array(output, np.float32)  # a copy: the next call of this request writes over its output
        finally:
            self._idle[rows].append(request)


def _prepare(module: nn.Module, example: np.ndarray, precision: str) -> nn.Module:
    fused = fuse_conv_bn(module, torch.from_numpy(example.copy()))  # a copy: the module may learn on
    if precision == "bf16":
        round_to_bf16(fused)
    return fused


@cache
def _core() -> Any:
    """One for the process, whose CPU plugin was loaded in a thread of its own.

    The plugin gives the thread that loads it a smaller stack for signal handlers, and frees that with the last core,
    whichever thread lets go of it: in the thread that was left with it the next signal would end the process.
    """
    import openvino

    core = openvino.Core()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(core.get_versions, "CPU").result()
    return core


@cache
def _quicker(threads: int | None) -> str:
    """OpenVINO's own choice of precision on this CPU, but float32 where a small network shows that to be faster.

    OpenVINO takes bfloat16 wherever the processor has instructions for it. That halves the time on some; one with those
    of AVX-512 and none of AMX was seen to take 1.4 to 2 times as long.
    """
    own: str = _core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    if own == "f32":
        return own
    with torch.random.fork_rng(devices=[]):
        layers = nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 256, 1), nn.ReLU(), nn.Conv2d(256, 64, 1)
        module = nn.Sequential(*layers).eval()
    example = np.ones((1, 64, 31, 31), np.float32)
    tried = {name: _OpenVino(module, example, threads, name, "a trial", ()) for name in (own, "f32")}
    taken = {name: math.inf for name in tried}
    for _ in range(TRIALS):
        for name, runtime in tried.items():
            started = time.perf_counter()
            runtime(example)
            taken[name] = min(taken[name], time.perf_counter() - started)
    return min(taken, key=taken.__getitem__)


def _to_openvino(module: nn.Module, example: np.ndarray) -> Any:
    """Converts by OpenVINO's PyTorch frontend, as `openvino.convert_model` does, which also reports its use online."""
    from openvino import PartialShape, Type
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings():  # torch deprecates the tracer that OpenVINO uses
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(module, example_input=(torch.from_numpy(example.copy()),))
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    (port,) = model.inputs
    port.get_node().set_element_type(Type.u8 if example.dtype == np.uint8 else Type.f32)
    model.reshape({port: PartialShape([-1, *example.shape[1:]])})
    return model
