"""Softmax focal loss with class weights, for diagnoses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

WEIGHTINGS = ("none", "inverse", "effective")


class FocalLoss(nn.Module):
    """Softmax focal loss.

    `-w_y * (1 - p_y)^gamma * log(p_y)` with the softmax probability p_y of the true class, averaged with the weights w (arXiv
    1708.02002, equation 5). With gamma 0 and no weights it is cross-entropy; with weights it is torch's weighted mean,
    `sum(w * loss) / sum(w)`.

    Args:
        gamma: Focusing parameter, 0 or more; a larger one gives easy examples less weight.
        class_weights: Positive weight of each class, shape (C,); None for equal weights.
    """

    class_weights: Tensor | None

    def __init__(self, *, gamma: float = 2.0, class_weights: Tensor | None = None) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma must be 0 or more, got {gamma}")
        self.gamma = gamma
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: Logits, float, shape (N, C).
            labels: Class indices, integer, shape (N,).

        Returns:
            A scalar, float32.
        """
        log_probs = log_softmax(logits.float(), dim=1).gather(1, labels[:, None]).squeeze(1)
        # Above 0, where the power of a gamma below 1 has no derivative; expm1 keeps the digits of a small 1 - p.
        doubts = (-torch.expm1(log_probs)).clamp(min=torch.finfo(torch.float32).tiny)
        losses = -(doubts**self.gamma) * log_probs
        if self.class_weights is None:
            return losses.mean()
        weights = self.class_weights[labels]
        return (weights * losses).sum() / weights.sum()


def class_weights(counts: Sequence[float], weighting: str, *, beta: float = 0.999) -> Tensor | None:
    """Compute class weights that increase with the rarity of a class.

    Args:
        counts: Training images of each class, or their expected number where a sampler draws them.
        weighting: `none`; `inverse`, 1 / n; or `effective`, (1 - beta) / (1 - beta^n), arXiv 1901.05555.
        beta: Beta of the effective number; close to 1 it is close to `inverse`.

    Returns:
        float32, shape (C,), with mean 1 over the classes that occur and 0 for the others; None for `none`.

    Raises:
        ValueError: `weighting` is unknown, or beta is outside [0, 1).
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be at least 0 and below 1, got {beta}")
    if weighting == "none":
        return None
    number = torch.tensor(counts, dtype=torch.float64)
    effective = number if weighting == "inverse" else (1 - beta**number) / (1 - beta)
    weights = torch.where(number > 0, 1 / effective.clamp(min=1e-12), 0.0)
    return (weights / weights[number > 0].mean()).float()


def build_focal_loss(*, gamma: float, weighting: str, beta: float, counts: Sequence[float]) -> FocalLoss:
    """Build the focal loss for a training set, see `FocalLoss` and `class_weights`."""
    return FocalLoss(gamma=gamma, class_weights=class_weights(counts, weighting, beta=beta))
