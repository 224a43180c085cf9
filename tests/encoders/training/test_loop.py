"""The rate's course, averaged weights, and a run that is interrupted anywhere and goes on."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from encoders.errors import CompsketchError, DataError
from encoders.objects import share_weights
from encoders.training import loop
from encoders.training.log import epochs, read_log
from encoders.training.loop import Course, Work, adam, constant, fit, follow, generator, one_cycle

CPU = torch.device("cpu")


class Batch(NamedTuple):
    x: Tensor  # (8, 3)


class Noise(Dataset[Batch]):
    """Batches that a seed and their place decide."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, step: int) -> Batch:
        return Batch(torch.from_numpy(generator(7, self.epoch, step).normal(size=(8, 3)).astype("float32")))


@dataclass(frozen=True)
class Config:
    width: int = 4
    rate: float = 0.05


def network(width: int = 4) -> nn.Sequential:
    """With all that a state is made of: weights, statistics, a counter, and dropout."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 2))


def losses(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    y = model(batch.x)
    return {"square": y.square().mean(), "away": 0.1 * (y - 1).abs().mean()}


def course(config: Config | None = None, **changes: object) -> Course:
    config = config or Config()
    model = network(config.width)
    optimiser = adam([{"params": list(model.parameters()), "peak": config.rate}], 1e-2, decoupled=True)
    tiny = Course("tiny", config, model, optimiser, Noise, losses, norm, epochs=3, steps=5, seed=1, ema=0.9)
    return replace(tiny, **changes)


def norm(average: nn.Module) -> dict[str, float]:
    return {"norm": float(average[0].weight.norm())}


def work(out: Path, **changes: object) -> Work:
    return replace(Work(Path("data"), out, threads=1), **changes)


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (0.0, 0.02),  # not nothing: a step without a rate would be lost
        (0.075, 0.5),
        (0.15, 1.0),
        (0.575, 0.5),  # half of the way down
        (0.15 + 0.85 * 0.25, (1 + math.cos(math.pi / 4)) / 2),
        (1.0, 0.0),
    ],
)
def test_the_rate_rises_in_a_line_and_falls_along_a_cosine(done, expected):
    assert one_cycle(done) == pytest.approx(expected)
    assert constant(done) == 1


def test_the_rate_has_one_top():
    rates = [one_cycle(i / 200) for i in range(201)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_adam_decays_weights_by_themselves_or_through_the_gradient():
    """With no gradient of its own, AdamW shrinks a weight by rate x decay; ADAM, normalising, by the whole rate."""
    for decoupled, expected in ((True, 2 * (1 - 0.1 * 0.01)), (False, 2 - 0.1)):
        weight = nn.Parameter(torch.tensor([2.0]))
        optimiser = adam([{"params": [weight], "peak": 0.1}], 0.01, decoupled)
        weight.grad = torch.zeros(1)
        optimiser.step()
        assert weight.item() == pytest.approx(expected, abs=1e-5)


def test_each_group_has_its_own_rate(tmp_path):
    model = network()
    groups = [{"params": list(part.parameters()), "peak": peak} for part, peak in ((model[0], 1e-3), (model[3], 1e-2))]
    made = course(model=model, optimiser=adam(groups, 0.0, decoupled=True), rate=lambda done: 0.5)
    fit(made, work(tmp_path), CPU)
    assert [group["lr"] for group in made.optimiser.param_groups] == [5e-4, 5e-3]


def test_follow_moves_weights_by_a_part_and_copies_counters():
    average, model = network(), network()
    model.train()(torch.randn(8, 3)).square().mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    old = {name: value.clone() for name, value in average.state_dict().items()}
    follow(average, model, decay=0.9)
    for name, new in model.state_dict().items():
        expected = 0.9 * old[name] + 0.1 * new if new.is_floating_point() else new
        assert torch.allclose(average.state_dict()[name], expected), name
    assert int(average[1].num_batches_tracked) == 1


def test_follow_moves_what_two_branches_share_once():
    average, model = (nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]) for _ in range(2))
    for pair in (average, model):
        share_weights(pair[0], pair[1])
    expected = 0.9 * average[0].weight.detach() + 0.1 * model[0].weight.detach()
    follow(average, model, decay=0.9)
    assert torch.allclose(average[1].weight, expected)


def test_a_run_is_the_loop_written_out(tmp_path):
    """Dropout aside, which has its own seed at every step."""
    model = nn.Linear(3, 2)
    by_hand = nn.Linear(3, 2)
    by_hand.load_state_dict(model.state_dict())
    optimiser = adam([{"params": list(model.parameters()), "peak": 0.05}], 1e-2, decoupled=True)
    measure = {"measure": lambda average: {}}
    average = fit(course(model=model, optimiser=optimiser, ramp=10, **measure), work(tmp_path), CPU)
    adamw = torch.optim.AdamW(by_hand.parameters(), weight_decay=1e-2)
    mean = {name: value.clone() for name, value in by_hand.state_dict().items()}
    for done in range(15):
        adamw.param_groups[0]["lr"] = 0.05 * one_cycle(done / 15)
        terms = losses(by_hand, Noise(done // 5)[done % 5])
        adamw.zero_grad()
        (terms["square"] + terms["away"]).backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 5.0)
        adamw.step()
        decay = min(0.9, (done + 1) / 10)
        mean = {name: decay * old + (1 - decay) * by_hand.state_dict()[name] for name, old in mean.items()}
    for name, value in mean.items():
        assert torch.allclose(average.state_dict()[name], value, atol=1e-6), name


@pytest.fixture
def whole(tmp_path) -> dict[str, Tensor]:
    """The averaged weights of a run that nothing interrupts."""
    (tmp_path / "whole").mkdir()
    return fit(course(), work(tmp_path / "whole"), CPU).state_dict()


@pytest.mark.parametrize("saves", [1, 3, 5, 7])  # within the first epoch, at its end, within the second
def test_half_a_run_and_the_other_half_are_a_run(tmp_path, killed_after, whole, saves):
    often = work(tmp_path, minutes=0.0)
    with killed_after(saves):
        fit(course(), often, CPU)
    torch.rand(7)  # another process has another state
    resumed = fit(course(), often, CPU).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    lines, uninterrupted = (epochs(read_log(path / "tiny.jsonl")) for path in (tmp_path, tmp_path / "whole"))
    figures = [[{**line, "seconds": 0} for line in part if "epoch" in line] for part in (lines, uninterrupted)]
    assert figures[0] == figures[1]  # an epoch's means count the steps before the interruption, too


def test_workers_draw_the_same_batches(tmp_path, whole):
    parallel = fit(course(), work(tmp_path, workers=2), CPU).state_dict()
    assert all(torch.equal(value, parallel[name]) for name, value in whole.items())


def test_the_scaler_of_half_precision_is_restored(tmp_path, monkeypatch, killed_after):
    """Its scale doubles after so many good steps; here on the CPU, since no GPU need be at hand."""
    scalers, gradient_scaler = [], torch.amp.GradScaler

    def scaler(device: str, enabled: bool) -> torch.amp.GradScaler:
        scalers.append(gradient_scaler("cpu", init_scale=8.0, growth_interval=2))
        return scalers[-1]

    monkeypatch.setattr(loop.torch.amp, "GradScaler", scaler)
    with killed_after(4):
        fit(course(), work(tmp_path, minutes=0.0), CPU)
    fit(replace(course(), epochs=1), work(tmp_path), CPU)
    assert scalers[0].get_scale() == 8 * 2**2
    assert scalers[1].get_scale() == 8 * 2**2  # the last step is the fifth: no sixth to double at


def test_a_finished_run_is_not_run_again(tmp_path, whole):
    finished = fit(course(batches=None), work(tmp_path / "whole"), CPU).state_dict()  # nothing to draw from
    assert all(torch.equal(value, finished[name]) for name, value in whole.items())


def test_another_configuration_is_refused_by_name(tmp_path, whole):
    with pytest.raises(
        DataError, match=r"tiny-checkpoint\.pt was made by another .*\(width 4, not 5; rate 0\.05, not 1"
    ):
        fit(course(Config(5, 1.0)), work(tmp_path / "whole"), CPU)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    broken = course(losses=lambda model, batch: {"log": (model(batch.x).sum() * 0 - 1).log()})
    with pytest.raises(CompsketchError, match="tiny: the loss is nan"):
        fit(broken, work(tmp_path), CPU)
    assert not (tmp_path / "tiny-checkpoint.pt").exists()


def test_the_log_has_every_term(tmp_path, whole):
    lines = read_log(tmp_path / "whole" / "tiny.jsonl")
    steps = [line for line in lines if "step" in line]
    assert [(line["epoch"], line["step"]) for line in steps] == [(e, s) for e in (1, 2, 3) for s in (1, 5)]
    for line in lines[1:]:
        assert line["loss"] == pytest.approx(line["square"] + line["away"], abs=3e-5)
    assert [line["norm"] > 0 for line in lines if "norm" in line] == [True] * 3
