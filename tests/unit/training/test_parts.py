"""Losses and schedulers of a training, those of segpipe and those of torch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

import segpipe.config.schemas  # noqa: F401 - registers the schemas
from segpipe.config.composing import typed
from segpipe.losses.classification import FocalLoss
from segpipe.training.parts import build_loss, build_optimizer, build_scheduler
from segpipe.training.schedule import fast_forward

CONF = Path(__file__).parents[3] / "conf"
STEPS = 12
ONE_CYCLE = ("scheduler._target_=torch.optim.lr_scheduler.OneCycleLR", "+scheduler._partial_=true")


pytestmark = pytest.mark.usefixtures("hydra")


def configure(*overrides: str) -> Any:
    return typed(compose("train_cls", ["data=synthetic", *overrides]))


def schedule(*overrides: str, rates: tuple[float, ...] = (0.1,)) -> LRScheduler:
    config = configure(*overrides)
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return build_scheduler(config.scheduler)(build_optimizer(config.optimizer)(groups), STEPS)


def rates_of(scheduler: LRScheduler, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def test_class_counts_reach_only_a_loss_that_takes_them() -> None:
    weighted = build_loss(configure("loss=weighted_cross_entropy").loss, counts=[1, 9])
    assert isinstance(weighted, FocalLoss)
    assert weighted.class_weights is not None
    plain = build_loss(configure("loss._target_=torch.nn.CrossEntropyLoss").loss, counts=[1, 9])
    assert isinstance(plain, nn.CrossEntropyLoss)
    assert plain.weight is None


@pytest.mark.parametrize("option", ["cross_entropy", "logit_adjusted", "focal"])
def test_added_arguments_reach_a_loss_of_torch_whatever_option_was_chosen(option: str) -> None:
    overrides = (f"loss={option}", "loss._target_=torch.nn.CrossEntropyLoss", "+loss.label_smoothing=0.1")
    loss = build_loss(configure(*overrides).loss, counts=[1, 9])
    logits, labels = torch.tensor([[2.0, -1.0]]), torch.tensor([0])
    expected = nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert loss(logits, labels).item() == pytest.approx(expected.item())


def test_one_cycle_covers_the_steps_of_the_training_up_to_the_rates_of_the_optimizer() -> None:
    scheduler = schedule(*ONE_CYCLE, rates=(0.1, 0.01))
    assert isinstance(scheduler, torch.optim.lr_scheduler.OneCycleLR)
    assert scheduler.total_steps == STEPS
    assert [group["max_lr"] for group in scheduler.optimizer.param_groups] == [0.1, 0.01]
    rates = rates_of(schedule(*ONE_CYCLE), STEPS - 1)
    assert max(rates) == pytest.approx(0.1, rel=0.1)
    assert rates[0] < max(rates) > rates[-1]


def test_settings_of_a_torch_scheduler_take_precedence() -> None:
    scheduler = schedule(*ONE_CYCLE, "+scheduler.max_lr=0.5", "+scheduler.total_steps=99")
    assert scheduler.total_steps == 99
    assert scheduler.optimizer.param_groups[0]["max_lr"] == 0.5


@pytest.mark.parametrize(
    "overrides",
    [
        *((), ("scheduler=constant",), ONE_CYCLE),
        ("scheduler._target_=torch.optim.lr_scheduler.CosineAnnealingLR",),
        ("scheduler._target_=torch.optim.lr_scheduler.StepLR", "+scheduler.step_size=3"),
    ],
)
def test_scheduler_of_a_resumed_training_continues_as_an_uninterrupted_one(overrides: tuple[str, ...]) -> None:
    uninterrupted, resumed = rates_of(schedule(*overrides), STEPS - 1), schedule(*overrides)
    fast_forward(resumed, 5)
    assert rates_of(resumed, STEPS - 6) == pytest.approx(uninterrupted[5:])
