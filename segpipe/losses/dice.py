"""Binary cross-entropy plus soft Dice, for masks."""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class BceDiceLoss(nn.Module):
    """`bce_weight * BCE + dice_weight * (1 - Dice)`, Dice per image.

    `Dice = (2 * sum(p * y) + 1) / (sum(p) + sum(y) + 1)` with probabilities p (V-Net, arXiv 1606.04797, in its unsquared form);
    the 1 keeps an empty mask finite.

    Args:
        bce_weight: Weight of the binary cross-entropy.
        dice_weight: Weight of the Dice term.
    """

    def __init__(self, *, bce_weight: float = 1.0, dice_weight: float = 1.0) -> None:
        super().__init__()
        self.bce_weight = bce_weight
        self.dice_weight = dice_weight

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: Logits of lesion, float (N, 1, H, W).
            masks: True masks, 0 or 1, of the same shape.

        Returns:
            A scalar, float32.
        """
        logits, masks = logits.float(), masks.float()
        bce = binary_cross_entropy_with_logits(logits, masks)
        probs = torch.sigmoid(logits)
        overlap = 2 * (probs * masks).sum((1, 2, 3)) + 1
        dice = overlap / (probs.sum((1, 2, 3)) + masks.sum((1, 2, 3)) + 1)
        return self.bce_weight * bce + self.dice_weight * (1 - dice).mean()
