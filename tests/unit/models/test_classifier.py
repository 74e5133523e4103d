"""The classifier: features and head, and frozen stages."""

from itertools import chain, pairwise

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from segpipe.models.classifier import LesionClassifier, build_classifier, require_feature_map

BATCH = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
NETWORKS = ("baseline_cnn", "efficientnet_b0", "resnet18", "mobilenetv2_100", "mobilenetv3_small_050", "convnextv2_atto")


@pytest.fixture
def model() -> LesionClassifier:
    torch.manual_seed(0)
    model = build_classifier(name="resnet10t", classes=7, attention="cbam", dropout=0.2)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):  # timm starts some at zero, which would block the gradient
            nn.init.ones_(part.weight)
    return model


@pytest.mark.parametrize("attention", ["none", "channel", "spatial", "cbam"])
def test_forward_is_head_of_features(attention: str) -> None:
    model = build_classifier(name="resnet10t", classes=5, attention=attention).eval()
    features = model.features(BATCH)
    assert features.shape == (4, 512, 2, 2)
    assert model(BATCH).shape == (4, 5)
    torch.testing.assert_close(model.head(features), model(BATCH))


def test_one_image_and_a_batch_give_the_same_numbers(model: LesionClassifier) -> None:
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([model(image[None]) for image in BATCH]), model(BATCH), rtol=1e-4, atol=1e-5)


def test_drop_path_skips_blocks_in_training_only() -> None:
    plain, dropped = (
        build_classifier(name="convnextv2_atto", classes=7, dropout=0.0, drop_path=rate, attention="cbam") for rate in (0.0, 0.5)
    )
    dropped.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(dropped.eval()(BATCH), plain.eval()(BATCH))
        torch.manual_seed(0)
        assert not torch.equal(dropped.train()(BATCH), dropped(BATCH))


@pytest.mark.parametrize("name", ["dla46_c", "baseline_cnn"])
def test_drop_path_is_refused_for_networks_without_it(name: str) -> None:
    assert build_classifier(name=name, classes=7, attention="cbam") is not None
    with pytest.raises(ValueError, match=rf"classifier\.drop_path must be 0 for {name}, which has none, got 0\.1"):
        build_classifier(name=name, classes=7, drop_path=0.1, attention="cbam")


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_contain_each_parameter_and_buffer_once(name: str) -> None:
    model = build_classifier(name=name, classes=7, attention="cbam")
    stages = model.stages()
    assert list(stages) == [*(f"stage{number}" for number in range(1, len(stages))), "head"]
    modules = list(chain.from_iterable(stages.values()))
    for tensors in (nn.Module.parameters, nn.Module.buffers):
        staged = [id(tensor) for module in modules for tensor in tensors(module)]
        assert sorted(staged) == sorted(map(id, tensors(model)))
    assert all(any(True for module in stage for _ in module.parameters()) for stage in stages.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_are_in_forward_order(name: str) -> None:
    model = build_classifier(name=name, classes=7, attention="cbam").eval()
    passed: list[str] = []
    for stage, modules in model.stages().items():
        for module in modules:
            module.register_forward_hook(lambda *_, stage=stage: passed.append(stage))
    model.features(BATCH[:1])
    assert list(dict.fromkeys(passed)) == list(model.stages())[:-1]
    # No stage runs again after a later one.
    assert sum(before != after for before, after in pairwise(passed)) == len(set(passed)) - 1


def state_of(model: LesionClassifier, stages: list[str]) -> dict[str, torch.Tensor]:
    return {
        f"{stage}.{number}.{name}": tensor.clone()
        for stage in stages
        for number, module in enumerate(model.stages()[stage])
        for name, tensor in module.state_dict().items()
    }


def train_one_step(model: LesionClassifier) -> None:
    groups = [{"params": list(model.parameters())}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)
    model.train()
    cross_entropy(model(BATCH), torch.arange(4)).backward()
    optimizer.step()


@pytest.mark.parametrize("depth", range(5))
def test_frozen_stages_keep_weights_and_batchnorm_statistics(model: LesionClassifier, depth: int) -> None:
    names = list(model.stages())
    frozen, thawed = names[:depth], names[depth:]
    model.freeze(frozen)
    still, moving = state_of(model, frozen), state_of(model, thawed)
    train_one_step(model)
    assert all(torch.equal(tensor, still[name]) for name, tensor in state_of(model, frozen).items())
    after = state_of(model, thawed)
    assert [name for name in moving if torch.equal(moving[name], after[name])] == []
    assert any("running_mean" in name for name in moving)


def test_single_stage_can_be_frozen(model: LesionClassifier) -> None:
    model.freeze(["stage3"])
    still, before = state_of(model, ["stage3"]), state_of(model, ["stage1"])
    train_one_step(model)
    assert all(torch.equal(tensor, still[name]) for name, tensor in state_of(model, ["stage3"]).items())
    assert not any(torch.equal(tensor, before[name]) for name, tensor in state_of(model, ["stage1"]).items())


def test_train_leaves_frozen_stages_in_eval_mode(model: LesionClassifier) -> None:
    model.freeze(["stage1", "head"])
    for _ in range(2):
        model.eval()
        model.train()
        modes = {
            name: {part.training for module in modules for part in module.modules()} for name, modules in model.stages().items()
        }
        assert {name for name, mode in modes.items() if mode == {False}} == {"stage1", "head"}
        assert {name for name, mode in modes.items() if mode == {True}} == {"stage2", "stage3", "stage4", "stage5"}


def test_unfreezing_restores_all_gradients(model: LesionClassifier) -> None:
    model.freeze(list(model.stages()))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.freeze([])
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_freezing_keeps_eval_mode(model: LesionClassifier) -> None:
    model.eval()
    model.freeze(["stage1"])
    assert not any(module.training for module in model.modules())


def test_freezing_an_unknown_stage_is_refused(model: LesionClassifier) -> None:
    with pytest.raises(ValueError, match=r"stages must be among stage1, .*, head, got stage9"):
        model.freeze(["stage9", "stage1"])


@pytest.mark.parametrize("name", ["efficientnet_b99", "hf-hub:some/model", "local-dir:/tmp"])
def test_name_unknown_to_timm_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"classifier.name must be a network that timm knows, got '{name}'"):
        build_classifier(name=name, classes=7, attention="cbam")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_vit", "its features are not a map, they have the shape .1, 65, 64."),
        ("test_mambaout", "its features are not a map, they have the shape .1, 4, 4, 64."),
        ("convit_tiny", "Input height .128. doesn't match model .224.."),
    ],
)
def test_network_without_a_feature_map_is_refused(name: str, reason: str) -> None:
    model = build_classifier(name=name, classes=7, attention="cbam")
    text = f"classifier.name must be a convolutional network for images of any size, got '{name}' .{reason}.$"
    with pytest.raises(ValueError, match=text):
        require_feature_map(model, name)


def test_network_whose_head_rejects_the_map_is_refused(model: LesionClassifier) -> None:
    model.linear = nn.Linear(7, 7)
    with pytest.raises(ValueError, match=r"images of any size, got 'resnet10t' \(.*mat1 and mat2 shapes cannot be multiplied"):
        require_feature_map(model, "resnet10t")


def test_network_with_weights_outside_of_stages_is_refused(model: LesionClassifier) -> None:
    model.backbone.positions = nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match=r"images of any size, got 'resnet10t' \(it has weights outside of its stages\)"):
        require_feature_map(model, "resnet10t")


def test_a_convolutional_network_has_a_feature_map(model: LesionClassifier) -> None:
    require_feature_map(model, "resnet10t")
    assert model.training


@torch.no_grad()
def test_layers_between_map_and_linear_layer_are_kept() -> None:
    """ConvNeXt normalizes the mean; MobileNetV3 widens it by a convolution."""
    for name, width in (("convnextv2_atto", 320), ("mobilenetv3_small_050", 1024)):
        model = build_classifier(name=name, classes=7, attention="none").eval()
        whole = timm.create_model(name, num_classes=7).eval()
        whole.load_state_dict(
            model.backbone.state_dict()
            | {f"{whole.pretrained_cfg['classifier']}.{key}": tensor for key, tensor in model.linear.state_dict().items()}
        )
        assert model.linear.in_features == width
        torch.testing.assert_close(model(BATCH), whole(BATCH), atol=1e-6, rtol=1e-6)


def test_baseline_is_small_and_registered_with_timm() -> None:
    model = build_classifier(name="baseline_cnn", classes=7, attention="none")
    assert 350_000 < sum(weights.numel() for weights in model.parameters()) < 450_000
    assert timm.create_model("baseline_cnn")(BATCH).shape == (4, 1000)
    maps = timm.create_model("baseline_cnn", features_only=True)(BATCH)
    assert [tuple(features.shape[1:]) for features in maps] == [(16 * 2**n, 32 // 2**n, 32 // 2**n) for n in range(5)]
    with pytest.raises(RuntimeError, match="No pretrained weights exist for baseline_cnn"):
        timm.create_model("baseline_cnn", pretrained=True)
