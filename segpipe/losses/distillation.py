"""Distillation: a loss of labels together with the distance from the probabilities of a teacher."""

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax


class DistillationLoss(nn.Module):
    """`label_weight * loss + (1 - label_weight) * T^2 * KL(p || q)`, the divergence averaged over the batch (arXiv 1503.02531).

    `p = softmax(log(teacher_probs) / T)` and `q = softmax(logits / T)`. The logarithms of the teacher's probabilities are its
    logits up to a constant, which no softmax sees, so `p` is proportional to `teacher_probs^(1 / T)`. The factor T^2 keeps the
    gradients of the second term at the same scale whatever T is.

    Args:
        loss: loss of logits and labels.
        temperature: T, above 0; a larger one counts the less probable classes more.
        label_weight: weight of `loss`, 0 to 1; with 1 the teacher does not count.

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
            logits: float, shape (N, C).
            labels: integer, shape (N,).
            teacher_probs: float, shape (N, C), each row sums to 1; None for validation images, of which only `loss` is computed.

        Returns:
            A scalar, float32.
        """
        of_labels: Tensor = self.loss(logits, labels)
        if teacher_probs is None:
            return of_labels
        teacher_logits = teacher_probs.float().clamp(min=torch.finfo(torch.float32).tiny).log()
        log_p, log_q = (log_softmax(values.float() / self.temperature, dim=1) for values in (teacher_logits, logits))
        divergence = kl_div(log_q, log_p, reduction="batchmean", log_target=True)
        return self.label_weight * of_labels + (1 - self.label_weight) * self.temperature**2 * divergence
