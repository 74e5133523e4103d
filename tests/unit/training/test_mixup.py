"""Mixup: the loss of a pair is that of its two targets, by their shares in the image; without it nothing is mixed."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Beta

from segpipe.losses.dice import BceDiceLoss
from segpipe.losses.distillation import DistillationLoss
from segpipe.losses.focal import FocalLoss
from segpipe.losses.logit_adjusted import LogitAdjustedLoss
from segpipe.models.preprocessing import InputSpec, normalize
from segpipe.training.tasks import DiagnosisMetrics, Task

SIZE, CLASSES, ALPHA = 16, 3, 0.4
SPEC = InputSpec(SIZE)
PIXELS = torch.randint(256, (6, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])
MASKS = (PIXELS[:, :1] > 127).float()
NAMER = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, CLASSES))
UNET = nn.Conv2d(3, 1, 3, padding=1)
LOSSES = {
    "focal": (NAMER, FocalLoss(class_weights=torch.tensor([0.5, 1.0, 1.5])), LABELS),
    "logit_adjusted": (NAMER, LogitAdjustedLoss(torch.tensor([0.7, 0.2, 0.1])), LABELS),
    "bce_dice": (UNET, BceDiceLoss(), MASKS),
    "distillation": (NAMER, DistillationLoss(FocalLoss(), temperature=2, label_weight=0.3), LABELS),
}
PROBS = torch.rand(6, CLASSES, generator=torch.Generator().manual_seed(1)).softmax(1)


def of_teacher(loss: nn.Module) -> list[Tensor]:
    """What a batch holds behind the targets."""
    return [PROBS] if isinstance(loss, DistillationLoss) else []


def step(model: nn.Module, loss: nn.Module, targets: Tensor, *, alpha: float) -> Tensor:
    task = Task(
        model, SPEC, loss, DiagnosisMetrics(), optimizer=partial(torch.optim.SGD, lr=0.1), schedule=max, mixup_alpha=alpha
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return task.training_step((PIXELS, targets, *of_teacher(loss)), 0)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_that_of_both_targets_by_their_shares(name: str) -> None:
    model, loss, targets = LOSSES[name]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        share, partner = Beta(ALPHA, ALPHA).sample().item(), torch.randperm(len(PIXELS))
    assert 0.01 < share < 0.99
    assert not torch.equal(partner, torch.arange(len(PIXELS)))
    clean = normalize(PIXELS, SPEC)
    logits = model(share * clean + (1 - share) * clean[partner])
    more = of_teacher(loss)
    of_partner = loss(logits, targets[partner], *(probs[partner] for probs in more))
    expected = share * loss(logits, targets, *more) + (1 - share) * of_partner
    torch.testing.assert_close(step(model, loss, targets, alpha=ALPHA), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_without_it_the_loss_is_that_of_the_images(name: str) -> None:
    model, loss, targets = LOSSES[name]
    expected = loss(model(normalize(PIXELS, SPEC)), targets, *of_teacher(loss))
    torch.testing.assert_close(step(model, loss, targets, alpha=0.0), expected)
