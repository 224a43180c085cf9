"""The loop that all stages share: steps in half precision, averaged weights, checkpoints and a log.

All that is random in a step is drawn from the seed and the step's place in the run, and nothing else. So a run that
goes on needs to know only where it was, and any number of workers draws the same batches.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from encoders.errors import CompsketchError
from encoders.training.checkpoints import load_state, save_state
from encoders.training.data import TrainingSet, read_parts
from encoders.training.log import Log
from encoders.training.processes import distribute, rank, team

EVERY = 20  # steps between two lines of the log


@dataclass(frozen=True)
class Work:
    """Where a stage reads and writes and what it runs on: all that does not change its result.

    Attributes:
        data: Folder that `read_training_set` reads.
        out: Folder for caches, checkpoints, metrics and results.
        device: As `processes.team` takes it.
        threads: CPU threads.
        workers: Processes that draw batches ahead, each; 0 draws between steps. A GPU wants about 8.
        minutes: Between checkpoints within an epoch; there is one at each epoch's end.
    """

    data: Path
    out: Path
    device: str = "cpu"
    threads: int = 2
    workers: int = 0
    minutes: float = 10.0


@contextmanager
def begin(work: Work, photos: int) -> Iterator[tuple[torch.device, TrainingSet, TrainingSet]]:
    """What every stage opens with: its threads and processes, its folder, and the data, read once.

    Args:
        work: The stage's.
        photos: Photos and sketches at most, in either part; 0 for all.

    Yields:
        The device, the part to train on, and the held-out one.
    """
    torch.set_num_threads(work.threads)
    with team(work.device) as device:
        work.out.mkdir(parents=True, exist_ok=True)
        data, unseen = read_parts(work.data)
        yield device, data.sample(photos), unseen.sample(photos)


@dataclass
class Course:
    """What a stage gives to `fit`.

    Attributes:
        name: Of the checkpoint and the log.
        config: The stage's configuration, kept with both.
        model: Learns; its ``forward`` takes what ``losses`` gives it.
        optimiser: Its groups hold ``peak``, the learning rate that ``rate`` scales.
        batches: For an epoch, a dataset whose item n is the batch of step n, a named tuple of tensors.
        losses: The weighted terms of the loss, given the model (or its DDP) and a batch on its device.
        measure: Figures on held-out data, given the averaged model.
        epochs: Passes.
        steps: Steps an epoch.
        seed: Of dropout; batches have their own.
        ema: Decay a step of the averaged weights; 0 keeps the last.
        ramp: Steps over which the average comes to its decay.
        rate: The learning rate's factor, given the part of the run that is done.
        clip: Largest norm of the gradient.
    """

    name: str
    config: Any
    model: nn.Module
    optimiser: torch.optim.Optimizer
    batches: Callable[[int], Dataset[Any]]
    losses: Callable[[nn.Module, Any], dict[str, Tensor]]
    measure: Callable[[Any], dict[str, float]]
    epochs: int
    steps: int
    seed: int
    ema: float
    ramp: int = 100
    rate: Callable[[float], float] = field(default_factory=lambda: one_cycle)
    clip: float = 5.0


def generator(seed: int, *place: int) -> np.random.Generator:
    """The source of all choices at one place of a run: epoch, step, process."""
    return np.random.default_rng([seed, *place])


def autocast(device: str | torch.device = "cpu") -> torch.autocast:
    """Half precision on CUDA, fp32 on a CPU.

    There bf16, where the CPU has it, costs more than it saves: backwards through a depthwise convolution it takes up
    to ten times as long as fp32, and a step of stage 1 twice as long.
    """
    if torch.device(device).type == "cuda":
        return torch.autocast("cuda", torch.float16)
    return torch.autocast("cpu", enabled=False)


def one_cycle(done: float, warm: float = 0.15) -> float:
    """The rate's factor: from nothing up to 1 by ``warm`` of the run, then down along a cosine.

    Args:
        done: Part of the run that is done, in [0, 1).
        warm: Part that warms up.
    """
    if done < warm:
        return max(done / warm, 0.02)  # not nothing: a step without a rate would be lost
    return 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


def constant(done: float) -> float:
    """The rate's factor where the rate stays as it is, as in the paper."""
    return 1.0


def adam(groups: list[dict[str, Any]], weight_decay: float, decoupled: bool) -> torch.optim.Optimizer:
    """ADAM over groups with a ``peak`` each.

    Args:
        groups: Parameters and their peaks.
        weight_decay: Of all groups that have none of their own.
        decoupled: As AdamW decays; else by the gradient, as the paper's ADAM.
    """
    return torch.optim.Adam(
        [{**group, "lr": group["peak"]} for group in groups],
        weight_decay=weight_decay,
        decoupled_weight_decay=decoupled,
    )


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move averaged weights and statistics towards the model's: ``decay`` of the old stays. Counters are copied."""
    for own, new in zip(_tensors(average), _tensors(model), strict=True):
        if own.dtype.is_floating_point:
            own.lerp_(new, 1 - decay)
        else:
            own.copy_(new)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()  # once, also where two branches share them
    yield from model.buffers()


def fit(course: Course, work: Work, device: torch.device) -> Any:
    """Train, going on from the last checkpoint in ``work.out`` if there is one.

    Returns:
        The averaged model, in evaluation mode.

    Raises:
        CompsketchError: The loss is no number any more.
        DataError: The checkpoint is another configuration's.
    """
    # One algorithm a convolution, so that a run can be repeated; what CUDA adds up in any order still differs.
    torch.backends.cudnn.deterministic = True
    course.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = distribute(course.model, device)
    average = copy.deepcopy(course.model).eval().requires_grad_(False)
    scaler = torch.amp.GradScaler("cuda", enabled=device.type == "cuda")
    parts = {"model": course.model, "average": average, "optimiser": course.optimiser, "scaler": scaler}
    checkpoint = work.out / f"{course.name}-checkpoint.pt"
    position = load_state(checkpoint, course.config, **parts)
    first, start, sums = (position.get(key, 0) for key in ("epoch", "step", "sums"))
    log = Log(work.out / f"{course.name}.jsonl", course.config, silent=rank() > 0)
    for epoch in range(first, course.epochs):
        started = saved = time.monotonic()
        total = Counter(sums or {}, start)
        for step, batch in enumerate(_loader(course, work, device, epoch, start), start):
            done = epoch * course.steps + step
            _seed(course.seed, epoch, step)
            rate = _set_rate(course.optimiser, course.rate(done / (course.epochs * course.steps)))
            terms = _step(model, course, scaler, _move(batch, device))
            follow(average, course.model, min(course.ema, (done + 1) / course.ramp))
            total.add(terms)
            if step % EVERY == 0 or step == course.steps - 1:
                log.step(epoch, course.epochs, step, course.steps, rate, _finite(terms, course.name))
            if rank() == 0 and time.monotonic() - saved >= 60 * work.minutes and step < course.steps - 1:
                save_state(checkpoint, course.config, {"epoch": epoch, "step": step + 1, "sums": total.sums}, **parts)
                saved = time.monotonic()
        start, sums = 0, {}
        if rank() == 0:
            log.epoch(epoch, **total.means(), seconds=time.monotonic() - started, **course.measure(average))
            save_state(checkpoint, course.config, {"epoch": epoch + 1, "step": 0, "sums": {}}, **parts)
    return average


def _step(model: nn.Module, course: Course, scaler: torch.amp.GradScaler, batch: Any) -> dict[str, Tensor]:
    """One step down the gradient; the terms of the loss before it."""
    model.train()
    terms = course.losses(model, batch)
    loss = torch.stack(list(terms.values())).sum()
    course.optimiser.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.unscale_(course.optimiser)
    nn.utils.clip_grad_norm_(course.model.parameters(), course.clip)
    scaler.step(course.optimiser)
    scaler.update()
    return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}


def _loader(course: Course, work: Work, device: torch.device, epoch: int, start: int) -> DataLoader[Any]:
    return DataLoader(
        course.batches(epoch),
        batch_size=None,  # an item is a batch
        sampler=range(start, course.steps),
        num_workers=work.workers,
        pin_memory=device.type == "cuda",
        # A fork: datasets hold maps of large files, which must not be copied.
        multiprocessing_context="fork" if work.workers else None,
    )


def _seed(seed: int, *place: int) -> None:
    """Make dropout a function of the place in the run; each process drops out its own."""
    torch.manual_seed(int(np.random.SeedSequence([seed, *place, rank()]).generate_state(1)[0]))


def _set_rate(optimiser: torch.optim.Optimizer, factor: float) -> float:
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor
    return float(optimiser.param_groups[0]["lr"])


def _move(batch: Any, device: torch.device) -> Any:
    return type(batch)(*(part.to(device, non_blocking=True) for part in batch))


def _finite(terms: Mapping[str, Tensor], name: str) -> dict[str, float]:
    values = {term: float(value) for term, value in terms.items()}
    if not math.isfinite(values["loss"]):
        raise CompsketchError(
            f"{name}: the loss is {values['loss']}; go on with a lower learning rate from another --out"
        )
    return values


class Counter:
    """Sums of the terms over the steps of an epoch, which stay on the device until they are asked for."""

    def __init__(self, sums: Mapping[str, float], steps: int) -> None:
        self._sums: dict[str, Any] = dict(sums)
        self._steps = steps

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """One step's."""
        self._steps += 1
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.double()

    @property
    def sums(self) -> dict[str, float]:
        """By term, for a checkpoint."""
        return {name: float(value) for name, value in self._sums.items()}

    def means(self) -> dict[str, float]:
        """By term."""
        return {name: value / self._steps for name, value in self.sums.items()}
