"""Distillation loss: label loss and divergence from the teacher."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from segpipe.losses.classification import DistillationLoss, FocalLoss, LogitAdjustedLoss
from segpipe.models.classifier import build_classifier
from segpipe.training.consistency import TurnConsistency

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.1, 0.2]])
LABELS = torch.tensor([0, 2])
PROBS = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.0, 0.9]])


def test_two_classes_by_hand() -> None:
    """At temperature 2, odds of 9 become 3, and those of the logits 4."""
    loss = DistillationLoss(nn.CrossEntropyLoss(), temperature=2, label_weight=0.25)
    logits = torch.tensor([[2 * math.log(4), 0.0]])
    divergence = 0.75 * math.log(0.75 / 0.8) + 0.25 * math.log(0.25 / 0.2)
    expected = 0.25 * -math.log(16 / 17) + 0.75 * 4 * divergence
    assert loss(logits, torch.tensor([0]), torch.tensor([[0.9, 0.1]])).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [FocalLoss(), LogitAdjustedLoss(torch.tensor([0.7, 0.2, 0.1]))])
def test_label_weight_of_1_and_validation_are_the_loss_without_a_teacher(loss: nn.Module) -> None:
    assert DistillationLoss(loss, temperature=3, label_weight=1)(LOGITS, LABELS, PROBS) == loss(LOGITS, LABELS)
    assert DistillationLoss(loss, temperature=3, label_weight=0.1)(LOGITS, LABELS) == loss(LOGITS, LABELS)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.0, 100.0])
def test_student_equal_to_its_teacher_has_no_divergence(temperature: float) -> None:
    loss = DistillationLoss(nn.CrossEntropyLoss(), temperature=temperature, label_weight=0)
    same = PROBS.clamp(min=torch.finfo(torch.float32).tiny).log() + 5
    assert loss(same, LABELS, PROBS).item() == pytest.approx(0, abs=1e-4 * temperature**2)
    logits = LOGITS.clone().requires_grad_()
    value = loss(logits, LABELS, PROBS)
    value.backward()
    assert value > 0
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_temperature_1_is_cross_entropy_with_soft_labels_plus_a_constant() -> None:
    loss = DistillationLoss(nn.CrossEntropyLoss(), temperature=1, label_weight=0)
    entropy = -(PROBS * PROBS.clamp(min=1e-30).log()).sum(1).mean()
    torch.testing.assert_close(loss(LOGITS, LABELS, PROBS), cross_entropy(LOGITS, PROBS) - entropy)


@pytest.mark.parametrize(("arguments", "key"), [((0.0, 0.3), "temperature"), ((2.0, 1.5), "label_weight")])
def test_values_outside_their_range_are_refused(arguments: tuple[float, float], key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key} must be "):
        DistillationLoss(nn.CrossEntropyLoss(), temperature=arguments[0], label_weight=arguments[1])


def test_rotated_copies_use_the_prediction_of_their_image() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_classifier(name="test_efficientnet", classes=3, attention="none", dropout=0.0).eval()
        images, labels = torch.rand(3, 3, 32, 32), torch.tensor([0, 2, 1])
        seen: list[tuple[Tensor, ...]] = []

        class Recording(nn.Module):
            def forward(self, logits: Tensor, *targets: Tensor) -> Tensor:
                seen.append((logits, *targets))
                return logits.sum()

        probs = torch.rand(3, 3).softmax(1)
        TurnConsistency(1.0)(model, images, [labels, probs], Recording())
    ((logits, of_labels, of_teacher),) = seen
    assert len(logits) == 4
    assert of_labels.tolist() == [0, 2, 0, 2]
    torch.testing.assert_close(of_teacher, probs[[0, 1, 0, 1]])


def test_informed_teacher_is_better_than_noisy_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(200, 2, generator=generator)
    truth = (points[:, 0] > 0).long()
    noise = torch.randint(2, (200,), generator=generator)
    knows = torch.full((200, 2), 0.05).scatter(1, truth[:, None], 0.95)

    def learn(*teacher: Tensor) -> float:
        student = nn.Linear(2, 2)
        nn.init.zeros_(student.weight)
        optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
        loss = DistillationLoss(nn.CrossEntropyLoss(), temperature=2, label_weight=0.3)
        for _ in range(20):
            optimizer.zero_grad()
            loss(student(points), noise, *teacher).backward()
            optimizer.step()
        return (student(points).argmax(1) == truth).float().mean().item()

    assert learn(knows) > 0.95
    assert learn() < 0.8
