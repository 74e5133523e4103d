"""Cross-entropy with the class priors taken out of the answer, for diagnoses that are of very different frequency."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class LogitAdjustedLoss(nn.Module):
    """Cross-entropy of `logits + tau * log(prior)`, averaged over the batch (arXiv 2007.07314, equation 10).

    The network then answers as if every class were equally frequent (tau 1), so the most probable class is the one with the best
    balanced accuracy. With tau 0 it is cross-entropy.

    Args:
        prior: share of each class in the training set, float, shape (C,), above 0.
        tau: 0 or more; how much of the prior is taken out.
    """

    log_prior: Tensor

    def __init__(self, prior: Tensor, *, tau: float = 1.0) -> None:
        super().__init__()
        if tau < 0:
            raise ValueError(f"loss.tau must be 0 or more, got {tau}")
        self.tau = tau
        self.register_buffer("log_prior", prior.log().float())

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Args: logits, float (N, C); labels, integer (N,). Returns: a scalar, float32."""
        return cross_entropy(logits.float() + self.tau * self.log_prior, labels)


def build_logit_adjusted_loss(*, tau: float, counts: Sequence[float]) -> LogitAdjustedLoss:
    """The loss for a training set with `counts` images of each class; a class without any counts as one image."""
    images = torch.tensor(counts, dtype=torch.float64).clamp(min=1)
    return LogitAdjustedLoss(images / images.sum(), tau=tau)
