"""EfficientNet-Lite0's weights as starting weights of EfficientNet-B0."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import skimage.data
import timm
import torch
from torch import Tensor, nn

from segpipe.lesion.crop import resize_square
from segpipe.models import lite0
from segpipe.models.classifier import build_classifier
from segpipe.models.preprocessing import InputSpec, normalize
from segpipe.models.unet import build_unet, encoder_network
from segpipe.training.starting_weights import load_starting_weights, starting_point

SIZE = 129  # 32k + 1, where both networks pad both sides of an image alike
LITE0_INPUT = InputSpec(SIZE, (127 / 255,) * 3, (128 / 255,) * 3)
CATS = {281, 282, 283, 284, 285}  # classes of ImageNet
CUPS = {504, 967, 968}


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    file = lite0.installed_file()
    if file is None:
        pytest.skip("needs the weights that segpipe[start] brings")
    return lite0.read_lite0(file)


@pytest.fixture(scope="module")
def reference(published: dict[str, Tensor]) -> nn.Module:
    """timm's Lite0 with the published weights."""
    network = timm.create_model("tf_efficientnet_lite0")
    network.load_state_dict(published)
    return network.eval()


@pytest.fixture(scope="module", autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def photographs(spec: InputSpec) -> Tensor:
    """Photographs of a cat and a cup of coffee."""
    images = [resize_square(image, SIZE) for image in (skimage.data.chelsea()[:, 75:375], skimage.data.coffee()[:, 80:480])]
    return normalize(torch.stack([torch.from_numpy(image) for image in images]).permute(0, 3, 1, 2), spec)


def with_relu6(weights: dict[str, Tensor]) -> nn.Module:
    """Build a B0 with the activations of Lite0."""
    network = timm.create_model("efficientnet_b0", num_classes=0, act_layer=nn.ReLU6)
    network.load_state_dict(weights)
    return network.eval()


def test_renamed_weights_classify_photographs(reference: nn.Module) -> None:
    cat, cup = reference(photographs(LITE0_INPUT)).argmax(dim=1).tolist()
    assert cat in CATS
    assert cup in CUPS


def test_converted_b0_equals_lite0(reference: nn.Module, published: dict[str, Tensor]) -> None:
    batch = photographs(LITE0_INPUT)
    network = with_relu6(lite0.convert_lite0(published))
    torch.testing.assert_close(network.forward_features(batch), reference.forward_features(batch), atol=2e-4, rtol=1e-4)


def test_fitted_activations_are_closer_to_lite0_than_swapped_ones(reference: nn.Module, published: dict[str, Tensor]) -> None:
    batch, plain = photographs(LITE0_INPUT), lite0.convert_lite0(published)
    wanted = reference.blocks[:2](reference.bn1(reference.conv_stem(batch)))

    def error(weights: dict[str, Tensor]) -> float:
        network = timm.create_model("efficientnet_b0", num_classes=0)
        network.load_state_dict(weights)
        network.eval()
        return float((network.blocks[:2](network.bn1(network.conv_stem(batch))) - wanted).square().mean())

    assert error(lite0.change_activations(plain)) < 0.3 * error(plain)


def test_fit_is_exact_for_linear_channels_and_zero_for_inactive_ones() -> None:
    scale, offset = lite0._fit_silu(torch.tensor([0.01, 0.5]), torch.tensor([3.0, -40.0]))
    slope = 1 / (0.952574 + 3 * 0.952574 * 0.047426)  # of SiLU at 3
    torch.testing.assert_close(scale, torch.tensor([slope, 0.0]), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(offset, torch.tensor([3 - slope * 3 * 0.952574, 0.0]), atol=1e-3, rtol=1e-3)


def test_imagenet_normalization_gives_the_same_features(published: dict[str, Tensor]) -> None:
    plain = lite0.convert_lite0(published)
    before, after = with_relu6(plain), with_relu6(lite0.fold_normalization(plain))
    pairs = [(before, LITE0_INPUT), (after, InputSpec(SIZE))]
    one, other = (network.bn1(network.conv_stem(photographs(spec)))[..., 1:-1, 1:-1] for network, spec in pairs)
    torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)
    changed = {key for key, tensor in lite0.fold_normalization(plain).items() if not torch.equal(tensor, plain[key])}
    assert changed == {"conv_stem.weight", "bn1.running_mean"}


def test_conversion_neither_uses_nor_changes_the_seed(published: dict[str, Tensor]) -> None:
    torch.manual_seed(1)
    one, drawn = lite0.convert_lite0(published), torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    other = lite0.convert_lite0(published)
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_gradient_reaches_squeeze_and_excitation(published: dict[str, Tensor]) -> None:
    network = timm.create_model("efficientnet_b0", num_classes=0)
    network.load_state_dict(lite0.convert_lite0(published))
    with torch.enable_grad():
        network(photographs(LITE0_INPUT)).square().mean().backward()
    assert all(block.se.conv_expand.weight.grad.abs().max() > 0 for stage in network.blocks for block in stage)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("efficientnet_b0", lambda: build_classifier(name="efficientnet_b0", classes=7, attention="cbam").backbone),
        ("tu-efficientnet_b0", lambda: encoder_network(build_unet(encoder="tu-efficientnet_b0", decoder_channels=[8] * 5))),
    ],
)
def test_init_imagenet_uses_installed_weights_without_a_download(published: dict[str, Tensor], name: str, build) -> None:
    def unreachable() -> nn.Module:
        raise AssertionError("a download was tried")

    backbone, start = build(), lite0.read_start(lite0.installed_file())
    load_starting_weights(backbone, name=name, init="imagenet", fetch=unreachable)
    state = backbone.state_dict()
    assert len(state) > 300
    assert all(torch.equal(tensor, start[key]) for key, tensor in state.items())
    assert starting_point(name, "imagenet") == "imagenet (EfficientNet-Lite0)"


@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_other_file_is_refused_before_unpickling(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lite0.pth").write_bytes(content)
    with pytest.raises(ValueError, match=lite0.SHA256):
        lite0.read_lite0(tmp_path / "lite0.pth")
