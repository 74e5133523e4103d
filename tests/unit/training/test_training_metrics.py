"""Validation metrics, compared with scikit-learn and values by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from segpipe.training.classifier import DiagnosisMetrics
from segpipe.training.segmenter import MaskMetrics

LOGITS = torch.randn(60, 7, generator=torch.Generator().manual_seed(0)) * 2


def values_of(metric: torch.nn.Module, *batches: tuple[torch.Tensor, torch.Tensor]) -> dict[str, float]:
    for logits, targets in batches:
        metric.update(logits, targets)
    return {name: value.item() for name, value in metric.compute().items()}


def test_diagnosis_metrics_are_those_of_scikit_learn() -> None:
    labels = torch.arange(60) % 7
    found = values_of(DiagnosisMetrics(), (LOGITS, labels))
    probs = LOGITS.softmax(1).numpy()
    assert found == {
        "val_accuracy": pytest.approx(accuracy_score(labels, probs.argmax(1))),
        "val_balanced_accuracy": pytest.approx(balanced_accuracy_score(labels, probs.argmax(1))),
        "val_auroc": pytest.approx(roc_auc_score(labels, probs, multi_class="ovr")),
    }


def test_classes_without_an_image_do_not_count() -> None:
    labels = torch.tensor([0, 3, 5]).repeat(20)
    found = values_of(DiagnosisMetrics(), (LOGITS, labels))
    areas = [roc_auc_score(labels == code, LOGITS.softmax(1)[:, code]) for code in (0, 3, 5)]
    recalls = [(LOGITS.argmax(1)[labels == code] == code).float().mean().item() for code in (0, 3, 5)]
    assert found["val_auroc"] == pytest.approx(np.mean(areas))
    assert found["val_balanced_accuracy"] == pytest.approx(np.mean(recalls))


def test_one_class_alone_has_an_accuracy_but_no_auroc() -> None:
    found = values_of(DiagnosisMetrics(), (LOGITS, torch.zeros(60, dtype=torch.long)))
    assert found["val_accuracy"] == pytest.approx((LOGITS.argmax(1) == 0).float().mean().item())
    assert "val_auroc" not in found


@pytest.mark.parametrize("kind", [MaskMetrics, DiagnosisMetrics])
def test_metrics_do_not_depend_on_batches_or_earlier_epochs(kind: type) -> None:
    logits = LOGITS if kind is DiagnosisMetrics else LOGITS.reshape(60, 1, 7, 1)
    targets = torch.arange(60) % 7 if kind is DiagnosisMetrics else (logits + LOGITS.roll(1).reshape(60, 1, 7, 1) > 0).float()
    whole = values_of(kind(), (logits, targets))
    metric = kind()
    metric.update(logits[:5], targets[:5])
    metric.reset()
    assert values_of(metric, (logits[:7], targets[:7]), (logits[7:], targets[7:])) == pytest.approx(whole)


def test_dice_and_iou_are_means_over_images() -> None:
    logits = torch.tensor([[1.0, 1, -1, -1], [2, 2, 2, 2], [-1, -1, -1, -1]]).view(3, 1, 2, 2)
    masks = torch.tensor([[0.0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]).view(3, 1, 2, 2)
    found = values_of(MaskMetrics(), (logits, masks))
    assert found["val_dice"] == pytest.approx((2 / 5 + 1 + 1) / 3)
    assert found["val_iou"] == pytest.approx((1 / 4 + 1 + 1) / 3)


def test_missed_lesion_scores_zero() -> None:
    found = values_of(MaskMetrics(), (-torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)))
    assert found == {"val_dice": 0.0, "val_iou": 0.0}
