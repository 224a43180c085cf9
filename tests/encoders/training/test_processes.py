"""Several processes against one: torchrun starts two, which talk by gloo on the CPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from encoders.errors import CompsketchError
from encoders.training import processes
from encoders.training.processes import first_alone, gather, per_process, rank, team, world

HERE = Path(__file__).parent
SCRIPT = HERE / "gradients.py"


@pytest.fixture(scope="module")
def alone() -> dict[str, torch.Tensor]:
    """Losses and gradients of one process that sees the whole batch."""
    spec = importlib.util.spec_from_file_location("gradients", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.gradients()


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """The same of two processes, each with half of the batch."""
    out = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", SCRIPT, out]
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(out / f"gradients-{number}.pt", weights_only=True) for number in range(2)]


@pytest.mark.parametrize("stage", ["objects", "msbir", "spatial"])
def test_two_processes_have_the_gradients_of_one(alone, together, stage):
    names = [name for name in alone if name.startswith(stage)]
    weights = [name for name in names if name.startswith(f"{stage}.")]
    assert len(weights) > 8
    for name in names:
        scale = float(alone[name].abs().max())
        for process in together:
            assert torch.allclose(process[name], alone[name], rtol=1e-3, atol=1e-4 * scale + 1e-7), name
    assert any(float(alone[name].abs().max()) > 0 for name in weights)


def test_one_process_is_a_team_of_its_own():
    with team("cpu") as device:
        assert device == torch.device("cpu")
        assert (rank(), world(), per_process(7)) == (0, 1, 7)
        x = torch.ones(2)
        assert gather(x) is x
        with first_alone() as first:
            assert first


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("tpu9000", "unknown device 'tpu9000'; choose cpu or cuda"),
        ("meta", "'meta' is not supported; choose cpu or cuda"),
        ("cuda:99", "'cuda:99', but torch sees [0-9]+ CUDA devices"),
    ],
)
def test_a_device_that_is_not_there_is_told_in_words(device, words):
    with pytest.raises(CompsketchError, match=words), team(device):
        pass


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert processes._place("cuda:1") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert processes._place("cuda") == processes._place("auto") == torch.device("cuda", 1)
    with pytest.raises(CompsketchError, match="'cuda:0' would be one GPU for 2 processes: choose cuda, one for each"):
        processes._place("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(CompsketchError, match="'cuda:2', but torch sees 2 CUDA devices"):
        processes._place("cuda")


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch):
    monkeypatch.setattr("encoders.training.processes.world", lambda: 3)
    with pytest.raises(CompsketchError, match="a batch of 64 cannot be divided among 3 processes"):
        per_process(64)
