"""Consistency term: 0 for maps that turn with the image, positive for maps that stay."""

import pytest
import torch
from torch import Tensor, nn

from segpipe.losses.classification import FocalLoss
from segpipe.models.classifier import build_classifier
from segpipe.training.consistency import TURNS, TurnConsistency, class_maps, correlation, turn

LABELS = torch.tensor([0, 2, 1, 0])
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Pointwise(nn.Module):
    """Looks at each pixel alone, so its maps turn with the image; a weight of each cell makes them stay."""

    def __init__(self, cells: Tensor | float = 1.0) -> None:
        super().__init__()
        self.attention, self.linear, self.cells = nn.Identity(), nn.Linear(3, 3), cells

    def features(self, images: Tensor) -> Tensor:
        return images * self.cells

    def head(self, features: Tensor) -> Tensor:
        return self.linear(features.mean((2, 3)))


def test_turns_are_the_eight_symmetries_of_the_square_and_invertible() -> None:
    turned = [turn(IMAGES, number) for number in range(TURNS)]
    assert len({image.numpy().tobytes() for image in turned}) == TURNS
    torch.testing.assert_close(turned[0], IMAGES)
    for image in turned:
        assert any(torch.equal(turn(image, back), IMAGES) for back in range(TURNS))


def test_term_is_zero_for_maps_that_turn_with_the_image() -> None:
    model, loss = Pointwise(), FocalLoss()
    value = TurnConsistency(5.0)(model, IMAGES, [LABELS], loss)
    torch.testing.assert_close(value, loss(model.head(IMAGES[:2]), LABELS[:2]))


def test_term_is_positive_for_maps_that_stay() -> None:
    corner = torch.zeros(8, 8)
    corner[:3, :2] = 1.0
    model, loss = Pointwise(corner), FocalLoss()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        light, heavy = (TurnConsistency(weight)(model, IMAGES, [LABELS], loss) for weight in (1e-9, 1.0))
    assert heavy > light + 0.5


def test_correlation_ignores_scale_and_offset_but_not_sign() -> None:
    maps = IMAGES[:, 0]
    torch.testing.assert_close(correlation(maps, 3 * maps + 1), torch.ones(4))
    torch.testing.assert_close(correlation(maps, -maps), -torch.ones(4))
    torch.testing.assert_close(correlation(maps, torch.ones_like(maps)), torch.zeros(4))


def test_class_map_sums_up_to_the_logit_without_its_bias() -> None:
    model = build_classifier(name="test_efficientnet", classes=3, dropout=0.0, attention="cbam").eval()
    features = model.features(torch.rand(4, 3, 64, 64))
    logits = model.head(features) - model.linear.bias
    torch.testing.assert_close(class_maps(model, features, LABELS).mean((1, 2)), logits[range(4), LABELS], rtol=1e-4, atol=1e-5)


def test_replicated_borders_give_a_uniform_map_for_a_uniform_image() -> None:
    image = torch.full((1, 3, 96, 96), 0.7)
    spread = {}
    for padding in ("zeros", "replicate"):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            model = build_classifier(name="test_efficientnet", classes=3, padding=padding, attention="cbam").eval()
            attended = model.attention(model.features(image))
        spread[padding] = float((attended - attended.mean((2, 3), keepdim=True)).abs().max() / attended.abs().max())
    assert spread["zeros"] > 1e-2
    assert spread["replicate"] < 1e-4


def test_unknown_padding_is_refused() -> None:
    with pytest.raises(ValueError, match=r"classifier\.padding must be one of zeros, replicate, got 'reflect'"):
        build_classifier(name="test_efficientnet", classes=3, padding="reflect", attention="cbam")
