"""What the stages share: half precision, the learning rate's course, checkpoints, and a log that can be plotted."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch


def autocast(device: str = "cpu") -> torch.autocast:
    """Half precision where the hardware has it: fp16 on CUDA, bf16 on a CPU with AVX-512 BF16; fp32 elsewhere."""
    if device.startswith("cuda"):
        return torch.autocast("cuda", torch.float16)
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())


def one_cycle(optimiser: torch.optim.Optimizer, done: float, warm: float = 0.15) -> None:
    """Set each group's rate: from nothing up to its ``peak`` by ``warm`` of the run, then down along a cosine.

    Args:
        optimiser: Its groups hold ``peak``.
        done: Part of the run that is done, in [0, 1).
        warm: Part that warms up.
    """
    factor = max(done / warm, 0.02) if done < warm else 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor


@torch.no_grad()
def follow(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    """Move averaged weights towards the model's: ``decay`` of the old stays. Counters are copied."""
    for own, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if own.dtype.is_floating_point:
            own.lerp_(new, 1 - decay)
        else:
            own.copy_(new)


def save_state(path: Path, epoch: int, **parts: Any) -> None:
    """Write a checkpoint whole or not at all: the number of finished epochs and each part's state."""
    fresh = path.with_suffix(".new")
    torch.save({"epoch": epoch, **{name: part.state_dict() for name, part in parts.items()}}, fresh)
    fresh.replace(path)


def load_state(path: Path, **parts: Any) -> int:
    """Restore a checkpoint's parts and return the epoch to go on with, 0 where there is no checkpoint."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["epoch"])


class Log:
    """A line a finished epoch in a JSON-lines file, and progress on stderr.

    Args:
        path: The file; lines are added to it.
        config: A dataclass, written first, so that a run says how it was made.
    """

    def __init__(self, path: Path, config: Any) -> None:
        self.path = path
        self._write({"config": json.loads(json.dumps(asdict(config), default=lambda path: path.name))})

    def progress(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Every twentieth step, one line on stderr."""
        if step % 20 == 0 or step == steps - 1:
            print(f"epoch {epoch + 1} step {step + 1}/{steps} loss {loss:.3f}", file=sys.stderr, flush=True)

    def epoch(self, epoch: int, **figures: float) -> None:
        """The figures of a finished epoch."""
        self._write({"epoch": epoch + 1, **{name: round(value, 5) for name, value in figures.items()}})

    def _write(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry)
        print(line, file=sys.stderr, flush=True)
        with self.path.open("a") as file:
            file.write(line + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """All that a `Log` has written to a file, runs that a later one went on from included."""
    return [json.loads(line) for line in path.read_text().splitlines()]
