"""Grad-CAM: its formula, agreement with pytorch-grad-cam, and no side effects."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from segpipe.inference.heatmap import scale_to_unit
from segpipe.inference.torch_runtime import HeadPass
from segpipe.inference.tta import VIEWS, mean_maps, mean_probs, softmax, stack_views, unstack
from segpipe.models.classifier import build_attention, build_classifier

CLASSES = 5


class Classifier(nn.Module):
    """Features and head of a classifier with two layers."""

    def __init__(self, attention: str = "cbam", *, kernel_size: int = 3) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, kernel_size, padding=kernel_size // 2), nn.BatchNorm2d(8), nn.SiLU())
        self.attention = build_attention(attention, 8)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(8, CLASSES)

    def features(self, batch: Tensor) -> Tensor:
        maps: Tensor = self.backbone(batch)
        return maps

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(self.attention(features).mean((2, 3))))
        return logits

    def forward(self, batch: Tensor) -> Tensor:
        return self.head(self.features(batch))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(3)
    return Classifier().eval()


@pytest.fixture
def batch() -> Tensor:
    return torch.randn(4, 3, 7, 7, generator=torch.Generator().manual_seed(5))


def explain(head: Callable[[Tensor], Tensor], features: Tensor, choose_target: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute maps for classes chosen from the logits of the same pass."""
    head_pass = HeadPass(head, features)
    return head_pass.maps(choose_target(head_pass.logits))


def always(target: int) -> Callable[[Tensor], Tensor]:
    return lambda logits: torch.full((len(logits),), target)


def likeliest(logits: Tensor) -> Tensor:
    return logits.argmax(1)


class RawGradCam(GradCAM):  # type: ignore[misc]
    """pytorch-grad-cam that keeps its map before scaling and resizing."""

    def get_cam_image(self, *args: object, **options: object) -> NDArray[np.float32]:
        raw: NDArray[np.float32] = super().get_cam_image(*args, **options)
        self.raw = raw
        return raw


@pytest.mark.parametrize("target", [0, 4, None])
@pytest.mark.parametrize("attention", ["none", "channel", "spatial", "cbam"])
def test_maps_equal_those_of_pytorch_grad_cam(attention: str, target: int | None, batch: Tensor) -> None:
    torch.manual_seed(1)
    model = Classifier(attention).eval()
    maps = explain(model.head, model.features(batch), likeliest if target is None else always(target))
    targets = None if target is None else [ClassifierOutputTarget(target)] * len(batch)
    with RawGradCam(model, [model.backbone]) as theirs:
        theirs(batch, targets)
    assert maps.amax() > 0
    torch.testing.assert_close(maps, torch.from_numpy(theirs.raw).relu(), atol=1e-6, rtol=1e-4)


def test_maps_of_a_real_classifier_equal_those_of_pytorch_grad_cam() -> None:
    torch.manual_seed(0)
    model = build_classifier(name="efficientnet_b0", classes=CLASSES, attention="cbam").train()
    images = torch.randn(4, 3, 64, 96)
    with torch.no_grad():
        for _ in range(10):  # BatchNorm statistics must fit the random weights, or activations vanish.
            model(images)
    model.eval()
    with torch.inference_mode():
        maps = explain(model.head, model.features(images), likeliest)
    with RawGradCam(model, [model.backbone.bn2]) as theirs:
        theirs(images, None)
    expected = torch.from_numpy(theirs.raw).relu()
    assert expected.amax() > 0
    assert maps.shape == (4, 2, 3)
    np.testing.assert_allclose(scale_to_unit(maps.numpy()), scale_to_unit(expected.numpy()), atol=1e-4)


def test_map_under_pooling_is_the_weighted_sum_of_channels() -> None:
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    linear = nn.Linear(3, CLASSES)
    maps = explain(lambda maps: linear(maps.mean((2, 3))), features, lambda _: torch.tensor([1, 4]))
    by_hand = torch.einsum("nc,nchw->nhw", linear.weight[[1, 4]] / 20, features).relu()
    torch.testing.assert_close(maps, by_hand.detach())


def test_logits_equal_a_forward_pass_and_have_no_graph(model: Classifier, batch: Tensor) -> None:
    head_pass = HeadPass(model.head, model.features(batch))
    assert torch.equal(head_pass.logits, model(batch))
    assert not (head_pass.logits.requires_grad or head_pass.maps(torch.zeros(4, dtype=torch.int64)).requires_grad)


def test_one_pass_explains_any_class_repeatedly(model: Classifier, batch: Tensor) -> None:
    features = model.features(batch)
    head_pass = HeadPass(model.head, features)
    for target in (0, 3, 0):
        expected = explain(model.head, features, always(target))
        assert torch.equal(head_pass.maps(torch.full((4,), target)), expected)


def test_maps_do_not_depend_on_the_batch(model: Classifier, batch: Tensor) -> None:
    together = explain(model.head, model.features(batch), likeliest)
    alone = [explain(model.head, model.features(image[None]), likeliest) for image in batch]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_maps_do_not_depend_on_the_grad_mode(
    mode: Callable[[], AbstractContextManager[None]], trainable: bool, model: Classifier, batch: Tensor
) -> None:
    logits, maps = model(batch), explain(model.head, model.features(batch), likeliest)
    model.requires_grad_(trainable)
    with mode():
        was = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        head_pass = HeadPass(model.head, model.features(batch))
        # The class may be chosen from logits computed in inference mode.
        found = head_pass.maps(head_pass.logits.softmax(1).argmax(1))
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == was
    assert torch.equal(found, maps)
    assert torch.equal(head_pass.logits, logits)


def state_of(model: nn.Module) -> list[object]:
    """Return hooks, modes, gradients and values of a model."""
    modules = [(part.training, len(part._forward_hooks), len(part._backward_hooks)) for part in model.modules()]
    weights = [(weight.requires_grad, weight.grad, weight.sum().item()) for weight in model.parameters()]
    return [modules, weights, [buffer.sum().item() for buffer in model.buffers()], torch.is_grad_enabled()]


@pytest.mark.parametrize("training", [True, False])
def test_model_is_unchanged_after_an_explanation(training: bool, model: Classifier, batch: Tensor) -> None:
    model.linear.requires_grad_(False)
    features = model.features(batch).detach()
    model.train(training)
    before = state_of(model)
    explain(model.head, features, likeliest)
    assert state_of(model) == before
    assert not features.requires_grad


class Broken(torch.autograd.Function):
    """Fails in the backward pass."""

    @staticmethod
    def forward(_: Any, features: Tensor) -> Tensor:
        return features.clone()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("broken on purpose")


def broken_head(_: Tensor) -> Tensor:
    raise RuntimeError("broken on purpose")


@pytest.mark.parametrize("broken", ["forward", "backward"])
def test_model_is_unchanged_after_an_error(broken: str, model: Classifier, batch: Tensor) -> None:
    features = model.features(batch).detach()
    before = state_of(model)
    head = broken_head if broken == "forward" else lambda maps: model.head(Broken.apply(maps))
    with torch.no_grad():
        with pytest.raises(RuntimeError, match="broken on purpose"):
            explain(head, features, likeliest)
        assert not torch.is_grad_enabled()
    assert state_of(model) == before
    assert not features.requires_grad


def test_half_precision_maps_are_summed_in_float32() -> None:
    features = torch.ones(1, 2, 2, 2, dtype=torch.bfloat16)
    features[:, 1] = 2**-10
    maps = explain(lambda maps: maps.sum((2, 3)).sum(1, keepdim=True), features, always(0))
    assert maps.dtype == torch.float32
    assert torch.equal(maps, torch.full((1, 2, 2), 1 + 2**-10))


def test_autocast_in_inference_mode_gives_close_maps(model: Classifier, batch: Tensor) -> None:
    expected = explain(model.head, model.features(batch), always(2))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(batch)
        maps = explain(model.head, model.features(batch), always(2))
    torch.testing.assert_close(maps, expected, atol=0.05 * expected.amax().item(), rtol=0)


def test_views_agree_for_a_symmetric_backbone(batch: Tensor) -> None:
    torch.manual_seed(2)
    model = Classifier("channel", kernel_size=1).eval()
    views = VIEWS["d4"]

    def predicted(logits: Tensor) -> Tensor:
        probs = mean_probs(unstack(softmax(logits.double().numpy()), views))
        return torch.from_numpy(probs.argmax(1)).repeat(len(views))

    stacked = torch.from_numpy(stack_views({1.0: batch.permute(0, 2, 3, 1).numpy()}, views)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        over_views = explain(model.head, model.features(stacked), predicted)
        plain = explain(model.head, model.features(batch), likeliest)
    np.testing.assert_allclose(mean_maps(over_views.numpy(), views)[0], plain.numpy(), atol=1e-5, rtol=1.3e-6)


@pytest.mark.parametrize("target", [torch.tensor(0), torch.zeros(3, dtype=torch.int64), torch.zeros(4, 1, dtype=torch.int64)])
def test_target_must_be_one_class_per_image(target: Tensor, model: Classifier, batch: Tensor) -> None:
    with pytest.raises(ValueError, match=r"one class index for each of 4 images, got shape \("):
        explain(model.head, model.features(batch), lambda _: target)


@pytest.mark.parametrize("index", [-1, CLASSES])
def test_target_must_be_a_known_class(index: int, model: Classifier, batch: Tensor) -> None:
    with pytest.raises(ValueError, match=rf"class indices from 0 to 4, got \[{index}, "):
        explain(model.head, model.features(batch), always(index))


def test_scaled_maps_reach_1_and_keep_proportions() -> None:
    factors = np.array([1e-20, 1.0, 1e20])[:, None, None]
    maps = (np.random.default_rng(0).random((3, 4, 4)) * factors).astype(np.float32)
    scaled = scale_to_unit(maps)
    assert scaled.dtype == np.float32
    assert scaled.max((1, 2)).tolist() == [1, 1, 1]
    np.testing.assert_allclose(scaled * maps.max((1, 2), keepdims=True), maps, rtol=1.3e-6)


def test_a_map_of_zeros_stays_zero() -> None:
    np.testing.assert_array_equal(scale_to_unit(np.zeros((1, 4, 4), np.float32)), np.zeros((1, 4, 4)))
