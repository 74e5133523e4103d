"""Settings that are tried before data are read."""

from pathlib import Path

import pytest
import torch
from hydra import compose
from torch import nn

import segpipe.config.schemas  # noqa: F401 - registers the schemas
from segpipe.config.composing import typed
from segpipe.config.values import check_values
from segpipe.errors import ConfigError
from segpipe.models.classifier import build_classifier
from segpipe.training.trial import try_parts

CONF = Path(__file__).parents[3] / "conf"
TINY = ("data=synthetic", "classifier.name=test_efficientnet", "classifier.input_size=64", "trainer.accelerator=cpu")


pytestmark = pytest.mark.usefixtures("hydra")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build_classifier(name="test_efficientnet", classes=7, attention="cbam")


def attempt(model: nn.Module, *overrides: str) -> None:
    config = compose("train_cls", [*TINY, *overrides])
    check_values(config)
    try_parts(typed(config), model)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("optimizer._target_=torch.optim.Adamw",), "optimizer"),
        (("optimizer._target_=torch.optim.LBFGS",), "optimizer"),
        (("optimizer._target_=torch.optim",), "optimizer"),
        (("+optimizer.nonsense=1",), "optimizer"),
        (("+optimizer.betas=[2,2]",), "optimizer"),
        (("scheduler._target_=segpipe.training.schedule.Cosine",), "scheduler"),
        (("scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",), "scheduler"),
        (("scheduler._target_=torch.optim.lr_scheduler.StepLR",), "scheduler"),
        (("scheduler._target_=torch.optim.lr_scheduler.LambdaLR", "+scheduler.lr_lambda=max"), "scheduler"),
        (("loss._target_=segpipe.losses.dice.BceDiceLoss",), "loss"),
        (("loss._target_=torch.nn.L1Loss",), "loss"),
        (("loss._target_=torch.nn.CrossEntropyLoss", "+loss.reduction=none"), "loss"),
        (("loss._target_=torch.nn.CrossEntropyLoss", "+loss.smoothing=0.1"), "loss"),
        (("trainer.monitor=val_dice",), "trainer.monitor"),
        (("+trainer.nonsense=1",), "trainer"),
        (("+trainer.callbacks=[]",), "trainer"),
        (("+trainer.limit_train_batches=-3",), "trainer"),
        (("trainer.accelerator=cpu", "trainer.devices=[0,1]"), "trainer.accelerator and trainer.devices"),
        (("augment.transforms=[{_target_:albumentations.D5}]",), "augment"),
        (("augment.transforms=[{_target_:albumentations.Resize,height:8,width:8}]",), "augment.transforms"),
        (("batch_size=1", "classifier.input_size=32"), "batch_size and classifier.input_size"),
        (("batch_size=2", "classifier.input_size=32", "trainer.devices=2"), "batch_size and classifier.input_size"),
    ],
)
def test_wrong_part_is_named_in_one_line(model: nn.Module, overrides: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}(\._target_)? must .+"):
        attempt(model, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        *((), ("batch_size=1",), ("+trainer.limit_train_batches=2",), ("optimizer._target_=torch.optim.SGD",), ("augment=none",)),
        ("loss._target_=torch.nn.CrossEntropyLoss", "+loss.label_smoothing=0.1"),
        ("scheduler._target_=torch.optim.lr_scheduler.OneCycleLR", "+scheduler._partial_=true"),
        ("scheduler._target_=torch.optim.lr_scheduler.StepLR", "+scheduler.step_size=3"),
        ("trainer.monitor=val_balanced_accuracy",),
    ],
)
def test_valid_parts_pass_and_leave_model_and_random_state_unchanged(model: nn.Module, overrides: tuple[str, ...]) -> None:
    before, drawn = {name: values.clone() for name, values in model.state_dict().items()}, torch.get_rng_state()
    attempt(model, *overrides)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
