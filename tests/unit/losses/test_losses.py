"""Focal, Dice and logit-adjusted losses, and class weights."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from segpipe.losses.classification import FocalLoss, LogitAdjustedLoss, build_focal_loss, build_logit_adjusted_loss, class_weights
from segpipe.losses.dice import BceDiceLoss

LOGITS = torch.randn(16, 7, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.arange(16) % 7
WEIGHTS = torch.tensor([1.0, 0.2, 3.0, 0.5, 2.0, 1.5, 4.0])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_loss_with_gamma_0_is_cross_entropy(weights: torch.Tensor | None) -> None:
    ours, theirs = (LOGITS.clone().requires_grad_() for _ in range(2))
    loss = FocalLoss(gamma=0, class_weights=weights)(ours, LABELS)
    expected = cross_entropy(theirs, LABELS, weight=weights)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_focal_loss_follows_the_paper() -> None:
    logits = torch.tensor([[math.log(0.7), math.log(0.2), math.log(0.1)]])
    assert FocalLoss(gamma=2)(logits, torch.tensor([1])).item() == pytest.approx(-(0.8**2) * math.log(0.2), rel=1e-5)


def test_larger_gamma_reduces_the_weight_of_easy_examples() -> None:
    losses = [FocalLoss(gamma=gamma)(LOGITS, LABELS).item() for gamma in (0, 0.5, 1, 2, 5)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("gamma", [0, 0.1, 0.5, 1, 2])
def test_gradient_is_finite_for_certain_predictions(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0, 0], [200.0, 0, 0]], requires_grad=True)
    FocalLoss(gamma=gamma)(logits, torch.tensor([0, 1])).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1, 1] < 0 < logits.grad[1, 0]


def test_half_precision_gives_a_float32_loss() -> None:
    assert FocalLoss()(LOGITS.bfloat16(), LABELS).dtype == torch.float32
    assert BceDiceLoss()(torch.zeros(1, 1, 2, 2).bfloat16(), torch.ones(1, 1, 2, 2)).dtype == torch.float32


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma must be 0 or more, got -1"):
        FocalLoss(gamma=-1)


def test_inverse_weights_have_mean_1_over_present_classes() -> None:
    weights = class_weights([10, 40, 0], "inverse")
    assert weights.tolist() == pytest.approx([1.6, 0.4, 0.0])


def test_effective_weights_follow_the_paper() -> None:
    # beta = 0.5: effective numbers 1, 1.5 and 1.75 for one, two and three images.
    expected = torch.tensor([1, 1 / 1.5, 1 / 1.75])
    torch.testing.assert_close(class_weights([1, 2, 3], "effective", beta=0.5), expected / expected.mean())


def test_beta_interpolates_between_equal_and_inverse_weights() -> None:
    counts = [5, 50, 500]
    assert class_weights(counts, "effective", beta=0).tolist() == pytest.approx([1, 1, 1])
    near = class_weights(counts, "effective", beta=1 - 1e-9)
    torch.testing.assert_close(near, class_weights(counts, "inverse"), rtol=1e-4, atol=0)


def test_built_loss_has_the_weights_of_the_counts() -> None:
    loss = build_focal_loss(gamma=1.5, weighting="inverse", beta=0.9, counts=[10, 40])
    assert (loss.gamma, loss.class_weights.tolist()) == (1.5, pytest.approx([1.6, 0.4]))
    assert build_focal_loss(gamma=2, weighting="none", beta=0.9, counts=[10, 40]).class_weights is None


def test_unknown_weightings_and_betas_are_refused() -> None:
    with pytest.raises(ValueError, match="weighting must be one of none, inverse, effective, got 'sqrt'"):
        class_weights([1, 2], "sqrt")
    with pytest.raises(ValueError, match="beta must be at least 0 and below 1, got 1"):
        class_weights([1, 2], "effective", beta=1)


def test_dice_of_a_mask_made_by_hand() -> None:
    # Prediction: the first two of four pixels; mask: the last three. Overlap 1, sizes 2 and 3.
    logits = torch.tensor([100.0, 100, -100, -100]).view(1, 1, 2, 2)
    mask = torch.tensor([0.0, 1, 1, 1]).view(1, 1, 2, 2)
    assert BceDiceLoss(bce_weight=0)(logits, mask).item() == pytest.approx(1 - (2 * 1 + 1) / (2 + 3 + 1))


def test_bce_and_dice_are_summed_with_their_weights() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, masks = torch.randn(3, 1, 8, 8, generator=generator), (torch.rand(3, 1, 8, 8, generator=generator) > 0.5).float()
    bce = BceDiceLoss(dice_weight=0)(logits, masks)
    torch.testing.assert_close(bce, binary_cross_entropy_with_logits(logits, masks))
    dice = BceDiceLoss(bce_weight=0)(logits, masks)
    torch.testing.assert_close(BceDiceLoss(bce_weight=0.5, dice_weight=2)(logits, masks), 0.5 * bce + 2 * dice)
    one_by_one = [BceDiceLoss(bce_weight=0)(logits[[index]], masks[[index]]) for index in range(3)]
    torch.testing.assert_close(dice, torch.stack(one_by_one).mean())


@pytest.mark.parametrize("certainty", [-200.0, 0.0, 200.0])
def test_an_empty_mask_gives_a_finite_loss_and_gradient(certainty: float) -> None:
    logits = torch.full((2, 1, 4, 4), certainty, requires_grad=True)
    loss = BceDiceLoss()(logits, torch.zeros(2, 1, 4, 4))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert (loss.item() == pytest.approx(0, abs=1e-6)) == (certainty < 0)


PRIOR = torch.tensor([0.6, 0.2, 0.1, 0.04, 0.03, 0.02, 0.01])


def test_logit_adjustment_with_tau_0_or_equal_classes_is_cross_entropy() -> None:
    expected = cross_entropy(LOGITS, LABELS)
    torch.testing.assert_close(LogitAdjustedLoss(PRIOR, tau=0)(LOGITS, LABELS), expected)
    torch.testing.assert_close(LogitAdjustedLoss(torch.full((7,), 1 / 7))(LOGITS, LABELS), expected)


def test_logit_adjustment_is_minimal_for_prior_free_logits() -> None:
    # Without information on the image the best logits are equal for all classes.
    logits = torch.zeros(1, 7, requires_grad=True)
    losses = torch.stack([LogitAdjustedLoss(PRIOR)(logits, torch.tensor([code])) for code in range(7)])
    (losses * PRIOR).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 7), atol=1e-6, rtol=0)


def test_logit_adjustment_takes_the_prior_from_the_training_set() -> None:
    built = build_logit_adjusted_loss(tau=1.0, counts=[30, 10, 0])
    torch.testing.assert_close(built.log_prior, torch.tensor([30 / 41, 10 / 41, 1 / 41]).log())
    with pytest.raises(ValueError, match=r"loss.tau must be 0 or more, got -1"):
        build_logit_adjusted_loss(tau=-1, counts=[1, 1])
