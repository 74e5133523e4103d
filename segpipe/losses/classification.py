"""Losses for diagnoses: focal, logit-adjusted and distillation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

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


class DistillationLoss(nn.Module):
    """Distillation loss.

    `label_weight * loss + (1 - label_weight) * T^2 * KL(p || q)`, where the divergence is averaged over the batch (arXiv
    1503.02531).

    `p = softmax(log(teacher_probs) / T)` and `q = softmax(logits / T)`. The logarithms of the teacher's probabilities are its
    logits up to a constant, which no softmax sees, so `p` is proportional to `teacher_probs^(1 / T)`. The factor T^2 keeps the
    gradients of the second term at the same scale whatever T is.

    Args:
        loss: Loss of logits and labels.
        temperature: Temperature T, above 0; a larger one gives the less probable classes more weight.
        label_weight: Weight of `loss`, 0 to 1; with 1 the teacher is ignored.

    Raises:
        ValueError: `temperature` or `label_weight` is outside its range.
    """

    def __init__(self, loss: nn.Module, *, temperature: float, label_weight: float) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if not 0 <= label_weight <= 1:
            raise ValueError(f"label_weight must be at least 0 and at most 1, got {label_weight}")
        self.loss = loss
        self.temperature = temperature
        self.label_weight = label_weight

    def forward(self, logits: Tensor, labels: Tensor, teacher_probs: Tensor | None = None) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: Logits, float, shape (N, C).
            labels: Class indices, integer, shape (N,).
            teacher_probs: Probabilities of the teacher, float, shape (N, C), rows sum to 1; None for validation images, for which
                only `loss` is computed.

        Returns:
            A scalar, float32.
        """
        label_loss: Tensor = self.loss(logits, labels)
        if teacher_probs is None:
            return label_loss
        teacher_logits = teacher_probs.float().clamp(min=torch.finfo(torch.float32).tiny).log()
        log_p, log_q = (log_softmax(values.float() / self.temperature, dim=1) for values in (teacher_logits, logits))
        divergence = kl_div(log_q, log_p, reduction="batchmean", log_target=True)
        return self.label_weight * label_loss + (1 - self.label_weight) * self.temperature**2 * divergence
