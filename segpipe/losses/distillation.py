"""Distillation: label loss plus divergence from a teacher's probabilities."""

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax


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
