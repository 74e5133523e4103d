"""Mixup: loss of blended images as the weighted loss of both targets."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torch.optim.lr_scheduler import ConstantLR

from segpipe.losses.classification import DistillationLoss, FocalLoss, LogitAdjustedLoss
from segpipe.losses.dice import BceDiceLoss
from segpipe.models.preprocessing import InputSpec, normalize
from segpipe.training.classifier import DiagnosisMetrics
from segpipe.training.tasks import Task

SIZE, CLASSES, ALPHA = 16, 3, 0.4
OPTIMIZATION = {"optimizer": partial(torch.optim.SGD, lr=0.1), "scheduler": lambda optimizer, _: ConstantLR(optimizer)}
SPEC = InputSpec(SIZE)
PIXELS = torch.randint(256, (6, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])
MASKS = (PIXELS[:, :1] > 127).float()
CLASSIFIER = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, CLASSES))
UNET = nn.Conv2d(3, 1, 3, padding=1)
LOSSES = {
    "focal": (CLASSIFIER, FocalLoss(class_weights=torch.tensor([0.5, 1.0, 1.5])), LABELS),
    "logit_adjusted": (CLASSIFIER, LogitAdjustedLoss(torch.tensor([0.7, 0.2, 0.1])), LABELS),
    "bce_dice": (UNET, BceDiceLoss(), MASKS),
    "distillation": (CLASSIFIER, DistillationLoss(FocalLoss(), temperature=2, label_weight=0.3), LABELS),
}
PROBS = torch.rand(6, CLASSES, generator=torch.Generator().manual_seed(1)).softmax(1)


def teacher_items(loss: nn.Module) -> list[Tensor]:
    """Items of a batch after the targets."""
    return [PROBS] if isinstance(loss, DistillationLoss) else []


def step(model: nn.Module, loss: nn.Module, targets: Tensor, *, alpha: float) -> Tensor:
    task = Task(model, SPEC, loss, DiagnosisMetrics(), **OPTIMIZATION, mixup_alpha=alpha)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return task.training_step((PIXELS, targets, *teacher_items(loss)), 0)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_weighted_loss_of_both_targets(name: str) -> None:
    model, loss, targets = LOSSES[name]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        share, partner = Beta(ALPHA, ALPHA).sample().item(), torch.randperm(len(PIXELS))
    assert 0.01 < share < 0.99
    assert not torch.equal(partner, torch.arange(len(PIXELS)))
    clean = normalize(PIXELS, SPEC)
    logits = model(share * clean + (1 - share) * clean[partner])
    more = teacher_items(loss)
    partner_loss = loss(logits, targets[partner], *(probs[partner] for probs in more))
    expected = share * loss(logits, targets, *more) + (1 - share) * partner_loss
    torch.testing.assert_close(step(model, loss, targets, alpha=ALPHA), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_without_mixup_is_that_of_the_images(name: str) -> None:
    model, loss, targets = LOSSES[name]
    expected = loss(model(normalize(PIXELS, SPEC)), targets, *teacher_items(loss))
    torch.testing.assert_close(step(model, loss, targets, alpha=0.0), expected)
