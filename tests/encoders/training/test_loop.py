"""The learning rate's course, averaged weights, checkpoints and the log."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn

from encoders.training.loop import Log, follow, load_state, one_cycle, read_log, save_state


def small(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def adam(model: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW([{"params": list(model.parameters()), "peak": 0.1}], lr=0.5)


def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    model.train()(torch.randn(8, 3)).square().mean().backward()
    optimiser.step()


def rate(done: float) -> float:
    optimiser = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "peak": 2.0}], lr=9.0)
    one_cycle(optimiser, done)
    return optimiser.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (0.0, 2.0 * 0.02),  # not nothing: a step without a rate would be lost
        (0.075, 1.0),
        (0.15, 2.0),
        (0.575, 1.0),  # half of the way down
        (0.15 + 0.85 * 0.25, 1 + math.cos(math.pi / 4)),
        (1.0, 0.0),
    ],
)
def test_the_rate_rises_in_a_line_and_falls_along_a_cosine(done, expected):
    assert rate(done) == pytest.approx(expected)


def test_the_rate_has_one_top():
    course = [rate(i / 200) for i in range(201)]
    top = course.index(max(course))
    assert course[: top + 1] == sorted(course[: top + 1])
    assert course[top:] == sorted(course[top:], reverse=True)


def test_each_group_has_its_own_peak():
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "peak": peak} for peak in (1.0, 3.0)]
    optimiser = torch.optim.SGD(groups, lr=0.0)
    one_cycle(optimiser, 0.15)
    assert [group["lr"] for group in optimiser.param_groups] == [1.0, 3.0]


def test_follow_moves_weights_by_a_part_and_copies_counters():
    average, model = small(0), small(1)
    step(model, adam(model))
    old = {name: value.clone() for name, value in average.state_dict().items()}
    follow(average, model, decay=0.9)
    for name, new in model.state_dict().items():
        expected = 0.9 * old[name] + 0.1 * new if new.is_floating_point() else new
        assert torch.allclose(average.state_dict()[name], expected), name
    assert int(average[1].num_batches_tracked) == 1


def test_half_a_run_a_checkpoint_and_the_other_half_are_a_run(tmp_path):
    whole = small(0)
    optimiser = adam(whole)
    torch.manual_seed(2)
    for _ in range(2):
        step(whole, optimiser)
    state = torch.get_rng_state()
    save_state(tmp_path / "run.pt", 2, model=whole, optimiser=optimiser)
    for _ in range(2):
        step(whole, optimiser)
    resumed = small(5)
    fresh = adam(resumed)
    assert load_state(tmp_path / "run.pt", model=resumed, optimiser=fresh) == 2
    torch.set_rng_state(state)
    for _ in range(2):
        step(resumed, fresh)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert fresh.param_groups[0]["peak"] == 0.1


def test_no_checkpoint_means_from_the_start(tmp_path):
    model = small(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert load_state(tmp_path / "none.pt", model=model) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path):
    path = tmp_path / "run.pt"
    save_state(path, 3, model=small(0))

    class Full:
        def state_dict(self) -> dict:
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        save_state(path, 4, model=small(1), broken=Full())
    restored = small(1)
    assert load_state(path, model=restored) == 3
    assert torch.equal(restored[0].weight, small(0)[0].weight)
    save_state(path, 5, model=small(1))
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]  # nothing half-written is left beside it


@dataclass(frozen=True)
class Inner:
    width: int = 3


@dataclass(frozen=True)
class Config:
    data: Path
    inner: Inner = field(default_factory=Inner)


def test_the_log_is_a_line_an_epoch_after_the_configuration(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    Log(path, Config(Path("/secret/place/coco"))).epoch(0, loss=1.2345678, map=0.5)
    again = Log(path, Config(Path("/secret/place/coco")))  # a run that goes on
    again.epoch(1, loss=1.0)
    config = {"config": {"data": "coco", "inner": {"width": 3}}}  # no path of this machine
    lines = [config, {"epoch": 1, "loss": 1.23457, "map": 0.5}, config, {"epoch": 2, "loss": 1.0}]
    assert read_log(path) == lines
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line) for line in err.splitlines()] == lines


def test_progress_is_told_now_and_then(tmp_path, capsys):
    log = Log(tmp_path / "log.jsonl", Config(Path("x")))
    capsys.readouterr()
    for index in range(45):
        log.progress(1, index, 45, 0.5)
    assert capsys.readouterr().err.splitlines() == [
        f"epoch 2 step {number}/45 loss 0.500" for number in (1, 21, 41, 45)
    ]
