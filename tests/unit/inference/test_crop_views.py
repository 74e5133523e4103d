"""Views of several crops: cost, order, and heatmaps."""

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pages import read_page
from torch import Tensor, nn

from segpipe.bundle.card import ClassifierBundle
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import heatmap_on_image, mean_heatmap
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.stages import Classifier, Localizer
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import IDENTITY, VIEWS, View, margin_scales, mean_maps, stack_views
from segpipe.lesion.crop import BORDERS, CropRule, crop_box
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.types import Box, RgbImage, mask_box

CELLS = 12
CROPS = VIEWS["crops"]
Bundles = list[ClassifierBundle]


@pytest.fixture(scope="module")
def images() -> list[RgbImage]:
    rng = np.random.default_rng(3)
    return [make_image(code, rng, (60, 80))[0] for code in CODES[:3]]


def findings(bundles: Bundles, images: Sequence[RgbImage], views: Sequence[View], *, batch_size: int = 8) -> list[Finding]:
    networks = [TorchClassifier(bundle, "cpu") for bundle in bundles]
    ensemble = ClassifierEnsemble(networks, views=views, explained="predicted", batch_size=batch_size)
    return Pipeline(Localizer(None, start=MaskSource.CONTOUR), ensemble)(list(images))


def assert_same(found: Sequence[Finding], expected: Sequence[Finding], *, atol: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=atol)
        assert one.tta_spread == pytest.approx(other.tta_spread, abs=atol)
        assert one.window == other.window
        np.testing.assert_array_equal(one.crop, other.crop)
        assert one.class_map is not None and other.class_map is not None
        np.testing.assert_allclose(one.class_map.values, other.class_map.values, atol=10 * atol)


def lesion(box: tuple[slice, slice]) -> tuple[RgbImage, Localization]:
    image = np.random.default_rng(0).integers(0, 256, (200, 240, 3), dtype=np.uint8)
    mask = np.zeros((200, 240), np.bool_)
    mask[box] = True
    return image, Localization(mask, mask_box(mask), MaskSource.UNET, ())


def test_crops_are_flips_of_three_margins() -> None:
    assert CROPS[0] == IDENTITY == View(0, False, 1.0)
    assert len(set(CROPS)) == len(CROPS) == 12
    assert margin_scales(CROPS) == (1.0, 0.7, 0.4)
    for scale in margin_scales(CROPS):
        flips = tuple(replace(view, margin_scale=1.0) for view in CROPS if view.margin_scale == scale)
        assert flips == VIEWS["flips"]
    assert {margin_scales(VIEWS[name]) for name in ("none", "flips", "d4")} == {(1.0,)}


@pytest.mark.parametrize("name", VIEWS)
def test_documented_cost_is_the_number_of_network_inputs(
    classifier: ClassifierBundle, images: list[RgbImage], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    network = TorchClassifier(classifier, "cpu")
    features = network.model.features

    def count(batch: Tensor) -> Tensor:
        counted.append(len(batch))
        return features(batch)

    monkeypatch.setattr(network.model, "features", count)
    of_views = Classifier(network, views=VIEWS[name], batch_size=8)
    localizations = Localizer(None, start=MaskSource.CONTOUR)(images)
    of_views.view_logits([of_views.cut(*pair) for pair in zip(images, localizations, strict=True)])
    (documented,) = re.findall(rf"^\| `{name}`[^|]*\| (\d+) \| ([\d.]+) \|", read_page("docs/performance.md"), re.MULTILINE)
    assert sum(counted) == len(images) * int(documented[0])
    assert float(documented[1]) == int(documented[0]) / 8
    assert max(counted) <= 8


@pytest.mark.parametrize("name", ["flips", "d4"])
def test_crops_of_one_margin_equal_the_plain_views(
    classifier: ClassifierBundle, ensemble: Bundles, images: list[RgbImage], name: str
) -> None:
    tight = replace(classifier, card=replace(classifier.card, crop=CropRule(margin_fraction=0.0)))
    scaled = tuple(replace(view, margin_scale=scale) for scale in (1.0, 0.5) for view in VIEWS[name])
    assert_same(findings([tight], images, scaled), findings([tight], images, VIEWS[name]), atol=1e-6)
    single = tuple(view for view in scaled if view.margin_scale == 1.0)
    assert_same(findings(ensemble, images, single), findings(ensemble, images, VIEWS[name]), atol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_batch_size_does_not_change_the_result(ensemble: Bundles, images: list[RgbImage], batch_size: int) -> None:
    assert_same(
        findings(ensemble, images, CROPS, batch_size=batch_size), findings(ensemble, images, CROPS, batch_size=24), atol=1e-5
    )


def test_result_does_not_depend_on_the_other_images(classifier: ClassifierBundle, images: list[RgbImage]) -> None:
    alone = [findings([classifier], [image], CROPS)[0] for image in images]
    assert_same(alone, findings([classifier], images, CROPS, batch_size=100), atol=1e-5)


def test_probabilities_and_spread_are_over_all_views_of_all_crops(classifier: ClassifierBundle, images: list[RgbImage]) -> None:
    found = findings([classifier], images, CROPS)
    probs_by_crop = []
    for scale in margin_scales(CROPS):
        rule = replace(classifier.card.crop, margin_fraction=0.25 * scale)
        bundle = replace(classifier, card=replace(classifier.card, crop=rule))
        of_crop = Classifier(TorchClassifier(bundle, "cpu"), views=VIEWS["flips"], batch_size=8)
        crops = [of_crop.cut(finding.photograph.image, finding.localization) for finding in found]
        probs_by_crop.append(torch.from_numpy(of_crop.view_logits(crops) / classifier.card.temperature).softmax(2))
    probs = torch.cat(probs_by_crop).numpy()
    np.testing.assert_allclose([list(one.probabilities.values()) for one in found], probs.mean(0), atol=1e-6)
    assert [one.tta_spread for one in found] == pytest.approx(probs.std(0).max(1).tolist(), abs=1e-6)
    assert np.ptp([crop_probs.mean(0) for crop_probs in probs.reshape(3, 4, len(images), -1)], axis=0).max() > 1e-3  # they differ


def test_closer_crops_lie_in_the_card_crop_and_contain_the_lesion(classifier: ClassifierBundle) -> None:
    network = Classifier(TorchClassifier(classifier, "cpu"), views=CROPS, batch_size=8)
    for box in (np.s_[80:120, 90:150], np.s_[0:30, 0:40], np.s_[150:200, 20:240], np.s_[0:200, 0:240]):
        image, localization = lesion(box)
        first, *closer = network.cut(image, localization)
        assert first.box == crop_box(image, localization.box, classifier.card.crop)
        for crop in closer:
            # Centers are rounded to whole pixels.
            assert first.box.top <= crop.box.top + 1 <= localization.box.top + 1
            assert first.box.left <= crop.box.left + 1 <= localization.box.left + 1
            assert localization.box.bottom <= crop.box.bottom <= first.box.bottom + 1
            assert localization.box.right <= crop.box.right <= first.box.right + 1
            assert crop.pixels.shape == first.pixels.shape


class Bright(nn.Module):
    """A backbone with one channel, the brightness of each cell."""

    num_features = 1

    def forward_features(self, batch: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(batch.mean(1, keepdim=True).relu(), CELLS)

    def forward_head(self, features: Tensor, *, pre_logits: bool) -> Tensor:
        return features.mean((2, 3))


def bright(classifier: ClassifierBundle, rule: CropRule) -> ClassifierBundle:
    """Make a classifier whose heatmap for mel is brightness."""
    model: Any = deepcopy(classifier.model)
    model.backbone, model.attention, model.linear = Bright(), nn.Identity(), nn.Linear(1, len(CODES))
    with torch.no_grad():
        model.linear.weight.zero_()[0] = 4
    return replace(classifier, model=model.eval(), card=replace(classifier.card, crop=rule))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("views", ["none", "d4", "crops"])
@pytest.mark.parametrize(("box", "spot"), [(np.s_[80:130, 90:150], (100, 130)), (np.s_[0:150, 60:230], (12, 200))])
def test_heatmap_is_at_the_position_of_the_spot(
    classifier: ClassifierBundle, views: str, box: tuple[slice, slice], spot: tuple[int, int], border: str
) -> None:
    image, localization = lesion(box)
    image[:] = 40
    image[spot[0] - 4 : spot[0] + 4, spot[1] - 4 : spot[1] + 4] = 250
    bundle = bright(classifier, CropRule(margin_fraction=0.5, border=border))
    ensemble = ClassifierEnsemble([TorchClassifier(bundle, "cpu")], views=VIEWS[views], explained="mel", batch_size=8)
    (prediction,) = ensemble([ensemble.cut(image, localization)])
    window = crop_box(image, localization.box, bundle.card.crop)
    assert prediction.class_map is not None and prediction.class_map.border == border
    heatmap = heatmap_on_image(prediction.class_map, window, *image.shape[:2])
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    cell = max(window.height, window.width) / CELLS
    assert abs(row + 0.5 - spot[0]) <= cell and abs(column + 0.5 - spot[1]) <= cell
    rows, columns = np.indices(heatmap.shape) + 0.5
    near = (abs(rows - spot[0]) < 2 * cell) & (abs(columns - spot[1]) < 2 * cell)
    assert heatmap[near].sum() > 0.95 * heatmap.sum() > 0


def test_closer_crops_count_only_where_they_reach() -> None:
    views = tuple(View(0, False, scale) for scale in (1.0, 0.5))
    maps = mean_maps(np.stack([np.zeros((4, 4), np.float32), np.ones((4, 4), np.float32)]), views)[:, 0]
    found = mean_heatmap(list(maps), [Box(0, 0, 80, 80), Box(20, 20, 60, 60)])
    expected = np.zeros((4, 4))
    expected[1:3, 1:3] = 0.5
    np.testing.assert_allclose(found, expected)


def test_views_of_several_crops_are_stacked_view_by_view_and_undone() -> None:
    crops = {scale: np.arange(32.0, dtype=np.float32).reshape(2, 4, 4, 1) + 100 * scale for scale in margin_scales(CROPS)}
    stacked = stack_views(crops, CROPS)
    assert stacked.shape == (24, 4, 4, 1)
    for number, view in enumerate(CROPS):
        np.testing.assert_array_equal(view.undo(stacked[2 * number : 2 * number + 2]), crops[view.margin_scale])
    np.testing.assert_array_equal(mean_maps(stacked[..., 0], CROPS), np.stack([crop[..., 0] for crop in crops.values()]))


def test_ensemble_in_one_view_uses_the_card_crop(classifier: ClassifierBundle) -> None:
    image, localization = lesion(np.s_[80:120, 90:150])
    many = ClassifierEnsemble([TorchClassifier(classifier, "cpu")], views=CROPS, explained=None, batch_size=8)
    plain = ClassifierEnsemble([TorchClassifier(classifier, "cpu")], views=VIEWS["none"], explained=None, batch_size=8)
    single = many.in_one_view()
    assert len(many.cut(image, localization)[0]) == 3 and len(single.cut(image, localization)[0]) == 1
    expected = plain([plain.cut(image, localization)])[0]
    for crops in (many.cut(image, localization), single.cut(image, localization)):
        prediction = single([crops])[0]
        np.testing.assert_array_equal(prediction.probs, expected.probs)
        assert prediction.tta_spread is None
