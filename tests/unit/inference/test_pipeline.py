"""The pipeline: the same numbers in any batch, each recomputed by hand."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from tiny import StandInUnet
from torch import Tensor

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.errors import BundleError, ConfigError
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.finding import Finding
from segpipe.inference.loading import load_pipeline
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.resources import choose_device
from segpipe.inference.stages import Classifier, Crops, Localizer
from segpipe.inference.torch_runtime import TorchClassifier, TorchSegmenter
from segpipe.inference.tta import VIEWS, View
from segpipe.lesion.crop import CropRule, crop_box, cut_out, full_box, resize_square
from segpipe.lesion.localization import MaskSource
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.models.preprocessing import images_to_batch
from segpipe.types import Box, RgbImage

CPU = torch.device("cpu")
SIZES = [(60, 80), (75, 100), (100, 75), (64, 64)]


def dark_is_lesion(images: Tensor) -> Tensor:
    """Return logits that are high where an image is dark."""
    return -20 * (images.mean(1, keepdim=True) - images.mean((1, 2, 3), keepdim=True) + 0.3)


@pytest.fixture(scope="module")
def images() -> list[RgbImage]:
    """Sixteen drawn photographs of four sizes."""
    rng = np.random.default_rng(7)
    return [make_image(CODES[number % 7], rng, SIZES[number % 4])[0] for number in range(16)]


@pytest.fixture
def trained(segmenter: SegmenterBundle) -> SegmenterBundle:
    return replace(segmenter, model=StandInUnet(dark_is_lesion))


def ensemble(
    bundle: ClassifierBundle, *, views: str = "d4", explained: str | None = "predicted", batch_size: int = 8
) -> ClassifierEnsemble:
    return ClassifierEnsemble([TorchClassifier(bundle, "cpu")], views=VIEWS[views], explained=explained, batch_size=batch_size)


def crops(bundle: ClassifierBundle, images: Sequence[RgbImage]) -> list[tuple[Crops]]:
    localizations = Localizer(None, start=MaskSource.CONTOUR)(images)
    return [(network(bundle).cut(*pair),) for pair in zip(images, localizations, strict=True)]


def network(bundle: ClassifierBundle, *, views: str = "d4") -> Classifier:
    return Classifier(TorchClassifier(bundle, "cpu"), views=VIEWS[views], batch_size=8)


def assert_same(one: Finding, other: Finding) -> None:
    np.testing.assert_array_equal(one.localization.mask, other.localization.mask)
    assert (one.localization.box, one.localization.reasons) == (other.localization.box, other.localization.reasons)
    assert one.crop_box == other.crop_box
    np.testing.assert_array_equal(one.crop, other.crop)
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    assert one.tta_spread == pytest.approx(other.tta_spread, abs=1e-5)
    assert one.class_map and other.class_map
    assert one.class_map.diagnosis == other.class_map.diagnosis
    np.testing.assert_allclose(one.class_map.values, other.class_map.values, atol=1e-5)


@pytest.mark.parametrize("is_trained", [True, False])
def test_batch_1_and_batch_16_give_the_same_numbers(
    segmenter: SegmenterBundle, trained: SegmenterBundle, classifier: ClassifierBundle, images: list[RgbImage], is_trained: bool
) -> None:
    pipeline = Pipeline(Localizer(TorchSegmenter(trained if is_trained else segmenter, "cpu")), ensemble(classifier))
    together = pipeline(images)
    alone = [pipeline([image])[0] for image in images]
    assert len({finding.diagnosis for finding in together}) > 1
    assert (MaskSource.UNET in {finding.localization.source for finding in together}) == is_trained
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_batch_size_does_not_change_numbers(
    trained: SegmenterBundle, classifier: ClassifierBundle, images: list[RgbImage], batch_size: int
) -> None:
    localizer = Localizer(TorchSegmenter(trained, "cpu"))
    expected = Pipeline(localizer, ensemble(classifier))(images[:3])
    found = Pipeline(localizer, ensemble(classifier, batch_size=batch_size))(images[:3])
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("views", ["none", "flips", "d4"])
def test_probabilities_are_the_mean_of_calibrated_softmaxes(
    classifier: ClassifierBundle, images: list[RgbImage], views: str
) -> None:
    cut = crops(classifier, images[:3])
    pixels = np.stack([crop.pixels for ((crop,),) in cut])
    batches = [images_to_batch(view.apply(pixels), classifier.card.input, CPU) for view in VIEWS[views]]
    with torch.no_grad():
        view_probs = [(classifier.model(batch).double() / 1.5).softmax(1) for batch in batches]
    expected = torch.stack(view_probs).mean(0).numpy()
    predictions = ensemble(classifier, views=views)(cut)
    # BatchNorm is folded in one of the two.
    np.testing.assert_allclose([prediction.probs for prediction in predictions], expected, atol=1e-5)
    np.testing.assert_allclose([prediction.probs.sum() for prediction in predictions], 1, atol=1e-12)


def test_explanation_does_not_change_probabilities(classifier: ClassifierBundle, images: list[RgbImage]) -> None:
    cut = crops(classifier, images[:3])
    plain, explained = ensemble(classifier, explained=None)(cut), ensemble(classifier)(cut)
    assert [prediction.class_map for prediction in plain] == [None] * 3
    for one, other in zip(plain, explained, strict=True):
        np.testing.assert_allclose(one.probs, other.probs, atol=1e-7)


def test_view_logits_are_uncalibrated(classifier: ClassifierBundle, images: list[RgbImage]) -> None:
    cut = crops(classifier, images[:3])
    logits = network(classifier).view_logits([crop for (crop,) in cut])
    assert logits.shape == (8, 3, 7)
    expected = torch.from_numpy(logits / 1.5).softmax(2).mean(0)
    np.testing.assert_allclose([prediction.probs for prediction in ensemble(classifier)(cut)], expected, atol=1e-7)


class RawGradCam(GradCAM):  # type: ignore[misc]
    """pytorch-grad-cam that keeps its map before scaling and resizing."""

    def get_cam_image(self, *args: object, **options: object) -> NDArray[np.float32]:
        raw: NDArray[np.float32] = super().get_cam_image(*args, **options)
        self.raw = raw
        return raw


def heatmaps_by_hand(
    classifier: ClassifierBundle, cut: Sequence[tuple[Crops]], views: Sequence[View], codes: Sequence[str]
) -> NDArray[np.float32]:
    """Compute pytorch-grad-cam maps of all views, averaged and scaled to 1."""
    pixels = np.stack([crop.pixels for ((crop,),) in cut])
    targets = [ClassifierOutputTarget(CODES.index(code)) for code in codes]
    maps = []
    for view in views:
        batch = images_to_batch(view.apply(pixels), classifier.card.input, CPU)
        with RawGradCam(classifier.model, [classifier.model.backbone.bn2]) as theirs:
            theirs(batch, targets)
        maps.append(view.undo(np.maximum(theirs.raw, 0)))
    mean = np.mean(maps, axis=0)
    peaks = mean.max((1, 2), keepdims=True)
    return np.asarray(mean / np.where(peaks > 0, peaks, 1), dtype=np.float32)


@pytest.mark.parametrize("views", ["none", "flips", "d4"])
@pytest.mark.parametrize("explained", ["predicted", "vasc"])
def test_heatmap_equals_averaged_pytorch_grad_cam(
    classifier: ClassifierBundle, images: list[RgbImage], views: str, explained: str
) -> None:
    cut = crops(classifier, images[:4])
    predictions = ensemble(classifier, views=views, explained=explained)(cut)
    codes = [CODES[int(found.probs.argmax())] if explained == "predicted" else explained for found in predictions]
    found = [prediction.class_map for prediction in predictions if prediction.class_map is not None]
    assert [heatmap.diagnosis for heatmap in found] == codes
    expected = heatmaps_by_hand(classifier, cut, VIEWS[views], codes)
    assert (expected.min(), expected.max()) == (pytest.approx(0, abs=0.6), 1)  # an empty map would prove nothing
    np.testing.assert_allclose([heatmap.values for heatmap in found], expected, atol=1e-4)


@pytest.mark.parametrize("rule", [CropRule(), CropRule(keep_background=False), CropRule(whole_image=True)], ids=str)
def test_crop_follows_the_rule_of_the_card(
    trained: SegmenterBundle, classifier: ClassifierBundle, images: list[RgbImage], rule: CropRule
) -> None:
    bundle = replace(classifier, card=replace(classifier.card, crop=rule))
    findings = Pipeline(Localizer(TorchSegmenter(trained, "cpu")), ensemble(bundle))(images[:8])
    assert all(finding.crop_box == full_box(image) for image, finding in zip(images, findings, strict=False)) == rule.whole_image
    for image, finding in zip(images[:8], findings, strict=True):
        localization = finding.localization
        assert finding.crop_box == crop_box(image, localization.box, rule)
        pixels = cut_out(image, localization.mask, finding.crop_box, keep_background=rule.keep_background)
        np.testing.assert_array_equal(finding.crop, resize_square(pixels, 96))


def test_malignant_classes_are_summed_where_the_card_names_them(classifier: ClassifierBundle, images: list[RgbImage]) -> None:
    localizer = Localizer(None, start=MaskSource.WHOLE_IMAGE)
    (finding,) = Pipeline(localizer, ensemble(classifier))(images[:1])
    assert finding.p_malignant == pytest.approx(sum(finding.probabilities[code] for code in MALIGNANT_CODES))
    without_malignant = replace(classifier, card=replace(classifier.card, malignant=()))
    (finding,) = Pipeline(localizer, ensemble(without_malignant))(images[:1])
    assert finding.p_malignant is None


def test_image_is_flagged_at_and_above_the_operating_point(classifier: ClassifierBundle, images: list[RgbImage]) -> None:
    localizer = Localizer(None, start=MaskSource.WHOLE_IMAGE)
    (finding,) = Pipeline(localizer, ensemble(classifier))(images[:1])
    assert finding.flagged is None
    prob = finding.probabilities["mel"]
    for threshold, flagged in [(prob, True), (prob / 2, True), (np.nextafter(prob, 1), False)]:
        card = replace(classifier.card, operating_points=(OperatingPoint("mel", float(threshold)),))
        (finding,) = Pipeline(localizer, ensemble(replace(classifier, card=card)))(images[:1])
        assert finding.flagged is flagged


def test_spread_is_none_with_a_single_view(classifier: ClassifierBundle, images: list[RgbImage]) -> None:
    cut = crops(classifier, images[:2])
    assert [prediction.tta_spread for prediction in ensemble(classifier, views="none")(cut)] == [None, None]
    logits = network(classifier, views="flips").view_logits([crop for (crop,) in cut])
    probs = torch.from_numpy(logits / 1.5).softmax(2).numpy()
    assert [prediction.tta_spread for prediction in ensemble(classifier, views="flips")(cut)] == pytest.approx(
        probs.std(0).max(1).tolist(), abs=1e-6
    )


@pytest.mark.parametrize("explained", ["scc", "MEL", "", "none"])
def test_unknown_class_cannot_be_explained(classifier: ClassifierBundle, explained: str) -> None:
    with pytest.raises(ConfigError, match=f"explain.diagnosis must be one of mel, nv, .*, got '{explained}'"):
        ensemble(classifier, explained=explained)


def test_whole_image_start_covers_the_image(classifier: ClassifierBundle, images: list[RgbImage]) -> None:
    (localization,) = Localizer(None, start=MaskSource.WHOLE_IMAGE)(images[:1])
    assert localization.mask.all()
    assert (localization.source, localization.box, localization.reasons) == (MaskSource.WHOLE_IMAGE, Box(0, 0, 60, 80), ())


def test_contour_start_skips_the_u_net(trained: SegmenterBundle, images: list[RgbImage]) -> None:
    with_unet = Localizer(TorchSegmenter(trained, "cpu"), start=MaskSource.CONTOUR)
    without = Localizer(None, start=MaskSource.CONTOUR)
    for localization, other in zip(with_unet(images[:7]), without(images[:7]), strict=True):
        assert localization.source is not MaskSource.UNET
        assert not any(reason.startswith("unet") for reason in localization.reasons)
        np.testing.assert_array_equal(localization.mask, other.mask)


def test_u_net_start_needs_a_segmenter(images: list[RgbImage]) -> None:
    with pytest.raises(ValueError, match=r"a segmenter must be given .* the U-Net, got None"):
        Localizer(None)(images[:1])


def test_blank_image_falls_back_to_the_whole_image_with_reasons(trained: SegmenterBundle, classifier: ClassifierBundle) -> None:
    pipeline = Pipeline(Localizer(TorchSegmenter(trained, "cpu")), ensemble(classifier))
    (finding,) = pipeline([np.zeros((40, 50, 3), dtype=np.uint8)])
    assert finding.localization.source is MaskSource.WHOLE_IMAGE
    assert {reason.partition(":")[0] for reason in finding.localization.reasons} == {"unet", "contour"}
    assert sum(finding.probabilities.values()) == pytest.approx(1)


def options(bundles: Path, **values: Any) -> dict[str, Any]:
    chosen = {"segmenter": str(bundles / "segmenter"), "classifier": [bundles / "classifier"], "device": "cpu"}
    return chosen | values


def test_loaded_bundles_predict_as_in_memory(
    bundles: Path, segmenter: SegmenterBundle, classifier: ClassifierBundle, images: list[RgbImage]
) -> None:
    loaded = load_pipeline(**options(bundles))
    expected = Pipeline(Localizer(TorchSegmenter(segmenter, "cpu")), ensemble(classifier))
    for one, other in zip(loaded(images[:2]), expected(images[:2]), strict=True):
        assert_same(one, other)


def test_segmenter_is_not_loaded_for_later_mask_sources(bundles: Path, tmp_path: Path) -> None:
    absent = {"segmenter": str(tmp_path / "absent")}
    assert load_pipeline(**options(bundles, localize="contour", **absent)).localizer.network is None
    with pytest.raises(BundleError, match=r"absent: a bundle must be a folder"):
        load_pipeline(**options(bundles, **absent))


def test_default_batch_size_depends_on_the_device(bundles: Path) -> None:
    assert load_pipeline(**options(bundles)).ensemble.batch_size == 8
    assert load_pipeline(**options(bundles, batch_size=9)).ensemble.batch_size == 9


def test_half_precision_is_close_and_float32_is_the_default(bundles: Path, images: list[RgbImage]) -> None:
    exact, near = (load_pipeline(**options(bundles, **values))(images[:4]) for values in ({}, {"precision": "bfloat16"}))
    for one, other in zip(exact, near, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.1)
        assert one.probabilities != other.probabilities


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "0", "meta"])
def test_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device must be auto, cpu, cuda, cuda:N or mps, got '{name}'"):
        choose_device(name)


@pytest.mark.parametrize("name", ["cuda:99"] if sys.platform == "darwin" else ["cuda:99", "mps"])
def test_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device={name} is not there on this machine; device=auto takes what is"):
        choose_device(name)


def test_automatic_device_is_available() -> None:
    assert choose_device(choose_device("auto")) == choose_device("auto") != "auto"
    assert choose_device("cpu") == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_and_cpu_give_the_same_numbers(bundles: Path, images: list[RgbImage]) -> None:
    found = {}
    for name in ("cpu", "cuda"):
        found[name] = load_pipeline(**options(bundles, device=name))(images[:4])
    for one, other in zip(found["cuda"], found["cpu"], strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-3)
