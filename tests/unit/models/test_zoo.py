"""Networks of all configurations: built, trained, explained and saved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from tiny import TRAINING, drawn_batch
from torch import Tensor, nn

import segpipe.config.schemas  # noqa: F401, registers the schemas with Hydra
from segpipe.bundle.card import ClassifierBundle, ClassifierCard, SegmenterBundle, SegmenterCard
from segpipe.bundle.folder import load_classifier, load_segmenter
from segpipe.bundle.saving import save_bundle
from segpipe.config.composing import typed
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.heatmap import scale_to_unit
from segpipe.inference.stages import Crop
from segpipe.inference.torch_runtime import HeadPass, TorchClassifier, TorchSegmenter
from segpipe.inference.tta import VIEWS
from segpipe.lesion.crop import CropRule, full_box, resize_square
from segpipe.models.classifier import LesionClassifier
from segpipe.models.preprocessing import InputSpec, images_to_batch
from segpipe.training import classifier as classifier_training
from segpipe.training import segmenter as segmenter_training
from segpipe.training.parts import build_loss, build_optimizer
from segpipe.training.schedule import parameter_groups

CONF = Path(__file__).parents[3] / "conf"
CPU = torch.device("cpu")
SPEC = InputSpec(64)
# A network of timm whose head contains a convolution and a BatchNorm.
NAMES = {"timm": ["classifier.name=mobilenetv4_conv_small_050"]}
CLASSIFIERS = [
    (option, attention)
    for option in sorted(path.stem for path in CONF.glob("classifier/*.yaml"))
    for attention in ("none", "cbam")
]
ENCODERS = ("tu-test_efficientnet", "tu-convnextv2_atto", "tu-baseline_cnn", "resnet18", "mobilenet_v2", "mit_b0")


def configure(script: str, *arguments: str) -> Any:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose(script, ["data=synthetic", *arguments]))


def train_one_step(model: nn.Module, groups: list[dict], config: Any, loss: nn.Module, targets: Tensor) -> float:
    """Train one step on drawn photographs, with their BatchNorm statistics."""
    batch = drawn_batch(SPEC)[: len(targets)]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1
    optimizer = build_optimizer(config.optimizer)(groups)
    value = loss(model.train()(batch), targets)
    value.backward()
    optimizer.step()
    with torch.no_grad():
        model(batch)
    model.eval()
    return value.item()


@dataclass(frozen=True)
class Trained:
    """A network after one step, with the loss and the parts that changed."""

    bundle: ClassifierBundle | SegmenterBundle
    loss: float
    moved: dict[str, bool]


def snapshot(groups: list[dict]) -> dict[str, list[Tensor]]:
    return {group["name"]: [weights.detach().clone() for weights in group["params"]] for group in groups}


def moved(groups: list[dict], before: dict[str, list[Tensor]]) -> dict[str, bool]:
    after = snapshot(groups)
    return {name: not all(map(torch.equal, after[name], before[name])) for name in before}


@pytest.fixture(scope="module", params=CLASSIFIERS, ids="-".join)
def classified(request: pytest.FixtureRequest) -> Trained:
    option, attention = request.param
    config = configure("train_cls", f"classifier={option}", *NAMES.get(option, []), f"classifier.attention={attention}")
    model, plan = classifier_training.build_untrained(config)
    groups = parameter_groups(model, plan)
    before = snapshot(groups)
    loss = train_one_step(model, groups, config, build_loss(config.loss, counts=[2] * len(CODES)), torch.arange(7))
    card = ClassifierCard(
        arguments={key: getattr(config.classifier, key) for key in ("name", "attention", "dropout", "drop_path")},
        input=SPEC,
        training=TRAINING,
        classes=CODES,
        malignant=MALIGNANT_CODES,
        crop=CropRule(),
    )
    return Trained(ClassifierBundle(model, card, ""), loss, moved(groups, before))


@pytest.fixture(scope="module", params=ENCODERS)
def segmented(request: pytest.FixtureRequest) -> Trained:
    config = configure(
        *("train_seg", "segmenter=unet", f"segmenter.encoder={request.param}", "segmenter.decoder_channels=[16,16,8,8,8]")
    )
    model = segmenter_training.build_untrained(config)
    groups = [{"name": name, "params": list(part.parameters())} for name, part in model.named_children()]
    before = snapshot(groups)
    targets = torch.zeros(4, 1, 64, 64)
    targets[:, :, 16:48, 16:48] = 1
    loss = train_one_step(model, groups, config, build_loss(config.loss), targets)
    arguments = {"encoder": request.param, "decoder_channels": [16, 16, 8, 8, 8]}
    card = SegmenterCard(arguments=arguments, input=SPEC, training=TRAINING)
    return Trained(SegmenterBundle(model, card, ""), loss, moved(groups, before))


@pytest.fixture(scope="module")
def crops() -> list[Crop]:
    rng = np.random.default_rng(3)
    images = [make_image(code, rng, (60, 80))[0] for code in ("mel", "nv", "bcc")]
    return [Crop(full_box(image), resize_square(image, SPEC.size)) for image in images]


def test_one_step_changes_each_stage_of_a_classifier(classified: Trained) -> None:
    assert np.isfinite(classified.loss)
    assert len(classified.moved) > 4
    assert all(classified.moved.values())


@torch.no_grad()
def test_classifier_predicts_and_explains_in_the_pipeline_as_trained(classified: Trained, crops: list[Crop]) -> None:
    model = classified.bundle.model
    assert isinstance(model, LesionClassifier)
    network = TorchClassifier(classified.bundle, "cpu")
    ensemble = ClassifierEnsemble([network], views=VIEWS["none"], explained="predicted", batch_size=8)
    batch = images_to_batch([crop.pixels for crop in crops], SPEC, CPU)
    expected = model(batch)
    largest = float(expected.abs().max())
    torch.testing.assert_close(network.model(batch), expected, atol=1e-4 * largest, rtol=1e-4)
    answers = ensemble([((crop,),) for crop in crops])
    np.testing.assert_allclose([answer.probs for answer in answers], expected.softmax(1), atol=1e-4)
    by_hand = scale_to_unit(HeadPass(model.head, model.features(batch)).maps(expected.argmax(1)).numpy())
    np.testing.assert_allclose([answer.class_map.values for answer in answers if answer.class_map], by_hand, atol=1e-3)
    assert by_hand.max() == 1  # otherwise nothing would be shown


@torch.no_grad()
def test_saved_classifier_gives_the_same_numbers(classified: Trained, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", classified.bundle.model, classified.bundle.card)
    loaded = load_classifier(tmp_path / "bundle")
    assert loaded.card.arguments == classified.bundle.card.arguments
    batch = drawn_batch(SPEC)
    torch.testing.assert_close(loaded.model(batch), classified.bundle.model(batch), atol=1e-6, rtol=1e-6)


def test_one_step_changes_encoder_and_decoder_of_a_u_net(segmented: Trained) -> None:
    assert np.isfinite(segmented.loss)
    assert segmented.moved == {"encoder": True, "decoder": True, "segmentation_head": True}


@torch.no_grad()
def test_saved_u_net_gives_the_same_numbers_in_the_pipeline(segmented: Trained, tmp_path: Path) -> None:
    batch = drawn_batch(SPEC)
    expected = segmented.bundle.model(batch)
    assert expected.shape == (14, 1, 64, 64)
    prepared = TorchSegmenter(segmented.bundle, "cpu")
    largest = float(expected.abs().max())
    torch.testing.assert_close(prepared.model(batch), expected, atol=1e-4 * largest, rtol=1e-4)
    save_bundle(tmp_path / "bundle", segmented.bundle.model, segmented.bundle.card)
    torch.testing.assert_close(load_segmenter(tmp_path / "bundle").model(batch), expected, atol=1e-6, rtol=1e-6)
