"""What is measured on the validation images after each epoch, to choose the best; the test split is scored by the pipeline."""

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class MaskMetrics(Metric):
    """Dice and IoU of masks at a threshold of 0.5, in the network's resolution, each the mean over images."""

    dice: Tensor
    iou: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("dice", "iou", "images"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, masks: Tensor) -> None:
        """Args: logits and masks (0 or 1), float (N, 1, H, W)."""
        predicted, true = logits > 0, masks > 0.5
        both = (predicted & true).sum((1, 2, 3))
        either = (predicted | true).sum((1, 2, 3))
        self.dice += torch.where(either > 0, 2 * both / (either + both), 1.0).sum()
        self.iou += torch.where(either > 0, both / either, 1.0).sum()
        self.images += len(logits)

    def compute(self) -> dict[str, Tensor]:
        """`val_dice` and `val_iou`, in [0, 1]; two empty masks agree."""
        return {"val_dice": self.dice / self.images, "val_iou": self.iou / self.images}


class DiagnosisMetrics(Metric):
    """Accuracy, balanced accuracy and macro AUROC in one view, on crops as in training: of true masks, else of found ones."""

    probs: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("probs", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Args: logits, float (N, C); labels, integer (N,)."""
        self.probs.append(logits.softmax(1))
        self.labels.append(labels)

    def compute(self) -> dict[str, Tensor]:
        """`val_accuracy`, `val_balanced_accuracy`, `val_auroc`, in [0, 1]; the last two are means over the classes that occur.

        There is no `val_auroc` where all images are of one class.
        """
        probs, labels = dim_zero_cat(self.probs).cpu(), dim_zero_cat(self.labels).cpu()
        hits = (probs.argmax(1) == labels).float()
        present = torch.unique(labels)
        areas = [roc_auc_score(labels == code, probs[:, code]) for code in present if len(present) > 1]
        scores = {
            "val_accuracy": hits.mean(),
            "val_balanced_accuracy": torch.stack([hits[labels == code].mean() for code in present]).mean(),
        }
        return scores | ({"val_auroc": torch.tensor(areas).mean()} if areas else {})
