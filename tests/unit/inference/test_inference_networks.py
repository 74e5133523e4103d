"""Networks prepared for inference: folding and packing keep the outputs."""

import copy

import pytest
import torch
from torch import Tensor, nn

from segpipe.inference.folding import PackedConvolution, fold_batch_norm, pack_convolutions
from segpipe.models.classifier import build_classifier
from segpipe.models.unet import build_unet


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


def trained(model: nn.Module) -> nn.Module:
    """Set random BatchNorm statistics and affine parameters."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return model.eval()


def example() -> Tensor:
    return torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(1))


NETWORKS = ["efficientnet_b0", "resnet18", "mobilenetv2_100", "convnextv2_atto", "regnety_002", "mobilenetv4_conv_small"]


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_folded_and_packed_classifier_keeps_its_outputs(name: str) -> None:
    model = trained(build_classifier(name=name, classes=7, attention="cbam"))
    before = copy.deepcopy(model.state_dict())
    expected = model(example())
    folded = fold_batch_norm(model)
    assert count(folded, nn.BatchNorm2d) == 0
    torch.testing.assert_close(folded(example()), expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)
    pack_convolutions(folded, folded.features)
    assert count(folded, PackedConvolution) > 0
    torch.testing.assert_close(folded(example()), expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)
    torch.testing.assert_close(model.state_dict(), before, atol=0, rtol=0)
    assert count(model, PackedConvolution) == 0


@torch.no_grad()
def test_folded_and_packed_unet_keeps_its_outputs() -> None:
    model = trained(build_unet(encoder="tu-efficientnet_b0", decoder_channels=[32, 16, 16, 8, 8]))
    expected = model(example())
    folded = fold_batch_norm(model)
    assert count(folded, nn.BatchNorm2d) == 0
    pack_convolutions(folded, folded)
    torch.testing.assert_close(folded(example()), expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)


@torch.no_grad()
def test_batchnorm_without_a_convolution_is_kept() -> None:
    model = trained(build_classifier(name="densenet121", classes=7, attention="cbam"))
    folded = fold_batch_norm(model)
    assert 0 < count(folded, nn.BatchNorm2d) < count(model, nn.BatchNorm2d)
    torch.testing.assert_close(folded(example()), model(example()), atol=1e-4, rtol=1e-3)


class UsedTwice(nn.Module):
    """Uses the output of its convolution twice, once normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, batch: Tensor) -> Tensor:
        features: Tensor = self.conv(batch)
        return self.norm(features) + features


@torch.no_grad()
def test_network_with_changed_outputs_is_not_folded() -> None:
    model = trained(UsedTwice())
    folded = fold_batch_norm(model)
    assert count(folded, nn.BatchNorm2d) == 1
    torch.testing.assert_close(folded(example()), model(example()))


def test_hooks_are_removed_after_an_error() -> None:
    class Broken(UsedTwice):
        def forward(self, batch: Tensor) -> Tensor:
            raise RuntimeError("broken")

    model = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        fold_batch_norm(model)
    assert not model.conv._forward_hooks


@torch.no_grad()
def test_unsupported_convolutions_are_not_packed() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(4, 2, 3, stride=2)
    )
    expected = model(example())
    pack_convolutions(model, model)
    assert [type(module) for module in model] == [nn.Conv2d, nn.Conv2d, PackedConvolution]
    torch.testing.assert_close(model(example()), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_convolutions_of_the_head_keep_their_gradient() -> None:
    model = build_classifier(name="mobilenetv4_conv_small", classes=7, attention="cbam").eval()
    pack_convolutions(model, model.features)
    kept = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert kept == ["backbone.conv_head", "attention.0.mlp.0", "attention.0.mlp.2", "attention.1.conv"]
    with torch.enable_grad():
        features = model.features(example()).requires_grad_()
        (gradient,) = torch.autograd.grad(model.head(features).sum(), features)
    assert gradient.abs().max() > 0
