"""Stage 1's cycles: which epoch draws what, and how the learning rate rises and falls."""

import pytest

from encoders.training.loop import one_cycle
from encoders.training.objects import Config, Cycle, Phase

TWICE = Config(
    cycles=(
        Cycle((Phase(2, 96), Phase(1, 128, 0.5))),
        Cycle((Phase(1, 112, edges=8),), rate=0.5, photo_class_weight=8.0),
    )
)


def test_an_epoch_has_its_phase_and_its_cycle():
    assert [(phase.side, phase.strength, phase.edges) for _, phase in TWICE.plan] == [
        (96, 1.0, 0),
        (96, 1.0, 0),
        (128, 0.5, 0),
        (112, 1.0, 8),
    ]
    assert [cycle.photo_class_weight for cycle, _ in TWICE.plan] == [3.0, 3.0, 3.0, 8.0]


def test_one_cycle_may_come_twice():
    cycle = Cycle((Phase(2, 96),))
    twice = Config(cycles=(cycle, cycle))
    assert [twice.rate(done) for done in (0.25, 0.75)] == pytest.approx([one_cycle(0.5)] * 2)


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (0.0, one_cycle(0.0)),
        (0.3, one_cycle(0.4)),
        (0.7499, one_cycle(0.99987)),
        (0.75, 0.5 * one_cycle(0.0)),  # rises again
        (0.875, 0.5 * one_cycle(0.5)),
    ],
)
def test_each_cycle_has_a_rate_of_its_own(done, expected):
    assert TWICE.rate(done) == pytest.approx(expected, abs=1e-6)
