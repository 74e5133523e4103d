"""Learning rate schedules: linear warm-up, half a cosine, constant."""

import itertools

import pytest

from segpipe.training.schedule import Constant, WarmupCosine

SCHEDULES = [WarmupCosine(), WarmupCosine(warmup_fraction=0.3, final_fraction=0.0), WarmupCosine(warmup_fraction=0.0)]


@pytest.mark.parametrize("steps", [20, 100, 1234])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_factor_rises_once_and_then_falls_to_the_final_fraction(schedule: WarmupCosine, steps: int) -> None:
    factors = [schedule(step, steps) for step in range(steps)]
    peak = factors.index(1.0)
    assert peak == max(1, round(schedule.warmup_fraction * steps)) - 1
    assert all(a < b for a, b in itertools.pairwise(factors[: peak + 1]))
    assert all(a >= b for a, b in itertools.pairwise(factors[peak:]))
    assert factors[0] > 0
    assert factors[-1] == pytest.approx(schedule.final_fraction)


def test_warm_up_is_linear_and_the_cosine_is_half_way_down_in_its_middle() -> None:
    schedule = WarmupCosine(warmup_fraction=0.1, final_fraction=0.2)
    assert [schedule(step, 101) for step in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert schedule(55, 101) == pytest.approx(0.6)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_shortest_trainings_and_the_step_after_the_last_are_valid(steps: int) -> None:
    factors = [WarmupCosine()(step, steps) for step in range(steps + 1)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[0] == 1


@pytest.mark.parametrize("name", ["warmup_fraction", "final_fraction"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_fractions_outside_0_to_1_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"scheduler\.{name} must be in \[0, 1\], got {value}"):
        WarmupCosine(**{name: value})


def test_constant_is_constant() -> None:
    assert {Constant()(step, 10) for step in range(11)} == {1.0}
