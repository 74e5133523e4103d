"""Where a training starts: at random, from a file of the same network, or from ImageNet where there is a network."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from segpipe.errors import ConfigError
from segpipe.models.classifier import build_classifier
from segpipe.models.starting_weights import load_starting_weights
from segpipe.models.unet import build_unet


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Of a whole network, its classifier too, as they are published."""
    torch.manual_seed(0)
    return dict(timm.create_model("resnet10t", num_classes=3).state_dict())


@pytest.fixture
def file(weights: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    save_file(weights, tmp_path / "resnet10t.safetensors")
    return tmp_path / "resnet10t.safetensors"


def classifier_backbone() -> nn.Module:
    return build_classifier(name="resnet10t", classes=7).backbone


def unet_backbone() -> nn.Module:
    return build_unet(encoder="tu-resnet10t", decoder_channels=[8] * 5).get_submodule("encoder.model")


@pytest.mark.parametrize("build", [classifier_backbone, unet_backbone])
def test_a_file_gives_its_weights_to_both_kinds_of_network(file: Path, weights: dict[str, torch.Tensor], build) -> None:
    backbone = build()
    load_starting_weights(backbone, name="resnet10t", init=str(file))
    state = backbone.state_dict()
    assert len(state) > 50
    assert all(torch.equal(tensor, weights[name]) for name, tensor in state.items())


def test_weights_of_half_precision_are_taken_in_the_networks_own(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in weights.items()}, tmp_path / "half.safetensors")
    backbone = classifier_backbone()
    load_starting_weights(backbone, name="resnet10t", init=str(tmp_path / "half.safetensors"))
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    torch.testing.assert_close(
        backbone.state_dict()["layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"], atol=1e-3, rtol=1e-3
    )


def test_random_leaves_the_network_as_it_is() -> None:
    backbone = classifier_backbone()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    load_starting_weights(backbone, name="resnet10t", init="random")
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_weights_of_another_network_are_refused_and_change_nothing(file: Path) -> None:
    backbone = build_classifier(name="resnet18", classes=7).backbone
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(
        ConfigError, match=r"must hold weights of 'resnet18': \d+ of its \d+ tensors are missing or of another shape"
    ):
        load_starting_weights(backbone, name="resnet18", init=str(file))
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_imagenet_without_a_network_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("name or service\nnot known")

    backbone = classifier_backbone()
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ConfigError, match=r"init=imagenet needs timm's weights of 'resnet10t', .*\(OSError\); check") as error:
        load_starting_weights(backbone, name="resnet10t", init="imagenet")
    assert "\n" not in str(error.value)


def test_imagenet_takes_what_timm_gives(monkeypatch: pytest.MonkeyPatch, weights: dict[str, torch.Tensor]) -> None:
    backbone, asked = classifier_backbone(), {}

    def create(name: str, **options: object) -> nn.Module:
        asked.update(options, name=name)
        published = nn.Module()
        published.state_dict = lambda: weights  # type: ignore[method-assign]
        return published

    monkeypatch.setattr(timm, "create_model", create)
    load_starting_weights(backbone, name="resnet10t", init="imagenet")
    assert asked == {"name": "resnet10t", "pretrained": True}
    assert torch.equal(backbone.state_dict()["conv1.0.weight"], weights["conv1.0.weight"])


def test_a_missing_a_damaged_and_a_pickled_file_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    (tmp_path / "damaged").write_bytes(b"no weights at all")
    torch.save(weights, tmp_path / "pickled")
    for name in ("missing", "damaged", "pickled"):
        with pytest.raises(ConfigError, match=f"init must be random, imagenet or a safetensors file, got '.*{name}' "):
            load_starting_weights(classifier_backbone(), name="resnet10t", init=str(tmp_path / name))


def test_the_weights_file_of_a_bundle_is_no_start(bundles: Path) -> None:
    """As a folder it is one, see `segpipe.training.start`, which looks at what it has seen."""
    with pytest.raises(ConfigError, match="must hold weights of 'test_efficientnet'"):
        backbone = build_classifier(name="test_efficientnet", classes=7).backbone
        load_starting_weights(backbone, name="test_efficientnet", init=str(bundles / "classifier" / "model.safetensors"))
