"""Logit-adjusted cross-entropy, for imbalanced diagnoses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class LogitAdjustedLoss(nn.Module):
    """Cross-entropy of `logits + tau * log(prior)`, averaged over the batch.

    With tau 1 the network predicts as if every class were equally frequent, so the most probable class is the one with the best
    balanced accuracy. With tau 0 it is cross-entropy. arXiv 2007.07314, equation 10.

    Args:
        prior: Fraction of each class in the training set, float, shape (C,), above 0.
        tau: Strength of the adjustment, 0 or more.
    """

    log_prior: Tensor

    def __init__(self, prior: Tensor, *, tau: float = 1.0) -> None:
        super().__init__()
        if tau < 0:
            raise ValueError(f"loss.tau must be 0 or more, got {tau}")
        self.tau = tau
        self.register_buffer("log_prior", prior.log().float())

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: Logits, float, shape (N, C).
            labels: Class indices, integer, shape (N,).

        Returns:
            A scalar, float32.
        """
        return cross_entropy(logits.float() + self.tau * self.log_prior, labels)


def build_logit_adjusted_loss(*, tau: float, counts: Sequence[float]) -> LogitAdjustedLoss:
    """Build the loss for a training set; empty classes count one image."""
    images = torch.tensor(counts, dtype=torch.float64).clamp(min=1)
    return LogitAdjustedLoss(images / images.sum(), tau=tau)
