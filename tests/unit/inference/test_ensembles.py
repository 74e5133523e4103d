"""Ensembles: averaged probabilities and heatmaps, in the frame of the first classifier."""

import pickle
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import TRAINING

from segpipe.bundle.card import ClassifierBundle
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.saving import save_bundle
from segpipe.data.duplicates import hash_id
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES, MALIGNANT_CODES
from segpipe.errors import BundleError, ConfigError
from segpipe.inference.ensemble import ClassifierEnsemble, ensemble_points, ensemble_sets
from segpipe.inference.finding import Finding
from segpipe.inference.heatmap import mean_heatmap
from segpipe.inference.loading import load_pipeline
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.runtimes import Runtime
from segpipe.inference.settings import PipelineSettings
from segpipe.inference.stages import Classifier, Localizer
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.lesion.localization import MaskSource
from segpipe.metrics.conformal import ConformalSets, fit_sets
from segpipe.metrics.operating_points import OperatingPoint, ValidationProbs
from segpipe.runs import ray_engine
from segpipe.runs.ray_engine import RayEngine
from segpipe.types import Box, RgbImage

CPU = torch.device("cpu")
CPU = Runtime.of(device="cpu")
Ensemble = list[ClassifierBundle]


@pytest.fixture(scope="module")
def images() -> list[RgbImage]:
    """Five drawn photographs."""
    rng = np.random.default_rng(3)
    return [make_image(code, rng, (75, 100))[0] for code in ("mel", "nv", "bcc", "vasc", "df")]


def findings(
    bundles: Sequence[ClassifierBundle],
    images: Sequence[RgbImage],
    *,
    views: str = "d4",
    explained: str | None = None,
    batch_size: int = 8,
) -> list[Finding]:
    """Run the pipeline with an ensemble of these classifiers."""
    networks = [TorchClassifier(bundle, "cpu") for bundle in bundles]
    ensemble = ClassifierEnsemble(networks, views=VIEWS[views], explained=explained, batch_size=batch_size)
    return Pipeline(Localizer(None, start=MaskSource.CONTOUR), ensemble)(images)


def probs_of(found: Sequence[Finding]) -> NDArray[np.float64]:
    return np.array([list(finding.probabilities.values()) for finding in found])


def heatmap_of(finding: Finding) -> NDArray[np.float32]:
    assert finding.class_map is not None
    return finding.class_map.values


@pytest.mark.parametrize(("views", "explained", "batch_size"), [("none", None, 8), ("d4", "predicted", 8), ("d4", "mel", 1)])
def test_probabilities_are_the_mean_over_classifiers(
    ensemble: Ensemble, images: list[RgbImage], views: str, explained: str | None, batch_size: int
) -> None:
    together = findings(ensemble, images, views=views, explained=explained, batch_size=batch_size)
    alone = [findings([bundle], images, views=views) for bundle in ensemble]
    expected = np.mean([probs_of(found) for found in alone], axis=0)
    np.testing.assert_allclose(probs_of(together), expected, atol=1e-6)
    assert np.ptp([probs_of(found) for found in alone], axis=0).max() > 0.1  # the classifiers disagree
    malignant = [sum(finding.probabilities[code] for code in MALIGNANT_CODES) for finding in together]
    assert [finding.p_malignant for finding in together] == pytest.approx(malignant)
    assert [finding.diagnosis for finding in together] == [CODES[index] for index in expected.argmax(1)]


def test_only_a_single_classifier_keeps_its_operating_points(ensemble: Ensemble, images: list[RgbImage]) -> None:
    assert {finding.flagged for finding in findings(ensemble[:1], images)} <= {True, False}
    assert {finding.flagged for finding in findings(ensemble, images)} == {None}


def with_validation(ensemble: Ensemble, **changes: Any) -> list[ClassifierBundle]:
    """Give the members validation probabilities and two operating points."""
    rng = np.random.default_rng(0)
    labels, hashes = np.arange(40) % len(CODES), [hash_id(str(number)) for number in range(40)]
    lesions = [hash_id(f"lesion {number % 35}") for number in range(40)]
    sets = ConformalSets(0.7, dict.fromkeys(CODES, 0.5), dict.fromkeys(CODES, 5))
    points = (OperatingPoint("mel", 0.5, 0.8), OperatingPoint("malignant", 0.5, 0.9))
    cards = [
        replace(
            bundle.card,
            operating_points=points,
            validation=ValidationProbs.pack(hashes, labels, rng.dirichlet(np.ones(len(CODES)), 40), lesions),
            conformal=sets,
        )
        for bundle in ensemble
    ]
    cards[-1] = replace(cards[-1], **changes)
    return [replace(bundle, card=card) for bundle, card in zip(ensemble, cards, strict=True)]


def test_operating_points_are_fitted_to_the_mean_on_shared_validation_images(ensemble: Ensemble) -> None:
    stricter = (OperatingPoint("malignant", 0.1, 0.95), OperatingPoint("mel", 0.1, 0.6), OperatingPoint("nv", 0.1, 0.6))
    cards = [bundle.card for bundle in with_validation(ensemble, operating_points=stricter)]
    points = ensemble_points(cards)
    assert [(point.target, point.target_sensitivity) for point in points] == [("mel", 0.8), ("malignant", 0.95)]
    known = [card.validation.unpack() for card in cards if card.validation is not None]
    labels, mean = known[0][0], np.mean([probs for _, probs in known], axis=0)
    for point, codes in zip(points, (("mel",), MALIGNANT_CODES), strict=True):
        indices = [CODES.index(code) for code in codes]
        scores = mean[:, indices].sum(axis=1)[np.isin(labels, indices)]
        target = point.target_sensitivity or 0
        assert (scores >= point.threshold).mean() >= target > (scores > point.threshold + 2e-6).mean()
    assert ensemble_points(cards[:1]) == cards[0].operating_points


def other_images() -> ValidationProbs:
    return ValidationProbs.pack([hash_id("other")], np.array([0]), np.full((1, len(CODES)), 0.1))


@pytest.mark.parametrize(
    "changes",
    [
        {"validation": None},
        {"validation": other_images()},
        {"training": replace(TRAINING, split_hash="another")},
        {"operating_points": ()},
        {"operating_points": (OperatingPoint("nv", 0.1, 0.9), OperatingPoint("mel", 0.1, None))},
    ],
    ids=["not_kept", "other_images", "other_split", "no_points", "chosen_otherwise"],
)
def test_operating_points_need_shared_validation_images(ensemble: Ensemble, changes: dict[str, Any]) -> None:
    assert ensemble_points([bundle.card for bundle in with_validation(ensemble, **changes)]) == ()


def test_findings_have_the_operating_points_of_the_ensemble(ensemble: Ensemble, images: list[RgbImage]) -> None:
    members = with_validation(ensemble)
    points = ensemble_points([bundle.card for bundle in members])
    found = findings(members, images)
    assert all(finding.operating_points == points for finding in found)
    assert [finding.flagged for finding in found] == [bool(finding.flagged_for) for finding in found]


def test_prediction_sets_are_fitted_to_the_mean_on_shared_validation_images(ensemble: Ensemble) -> None:
    higher = ConformalSets(0.8, dict.fromkeys(CODES, 0.5), dict.fromkeys(CODES, 5))
    cards = [bundle.card for bundle in with_validation(ensemble, conformal=higher)]
    known = [card.validation for card in cards if card.validation is not None]
    mean = np.mean([probs.unpack()[1] for probs in known], axis=0)
    for coverage, fitted in ((None, 0.8), (0.6, 0.6)):
        expected = fit_sets(mean, known[0].unpack()[0], known[0].lesion_hashes, classes=CODES, coverage=fitted)
        assert ensemble_sets(cards, coverage) == expected
        assert ensemble_sets(cards[::-1], coverage) == expected
        assert set(expected.images.values()) == {5}
    assert ensemble_sets(cards[:1]) == cards[0].conformal
    alone = ensemble_sets(cards[:1], 0.6)
    assert alone == fit_sets(known[0].unpack()[1], known[0].unpack()[0], known[0].lesion_hashes, classes=CODES, coverage=0.6)


@pytest.mark.parametrize(
    "changes",
    [{"validation": None}, {"validation": other_images()}, {"training": replace(TRAINING, split_hash="another")}],
    ids=["not_kept", "other_images", "other_split"],
)
def test_prediction_sets_need_shared_validation_images(ensemble: Ensemble, changes: dict[str, Any]) -> None:
    cards = [bundle.card for bundle in with_validation(ensemble, **changes)]
    assert ensemble_sets(cards) is None
    with pytest.raises(ConfigError, match=r"conformal\.coverage=0\.8 needs classifiers whose cards hold"):
        ensemble_sets(cards, 0.8)


def test_prediction_sets_of_cards_without_lesions(ensemble: Ensemble) -> None:
    cards = [bundle.card for bundle in with_validation(ensemble, conformal=None)]
    assert ensemble_sets(cards) is None  # a member has no sets
    assert ensemble_sets(cards, 0.6) is not None
    older = [replace(card, conformal=None, validation=replace(card.validation, lesions="")) for card in cards if card.validation]
    assert ensemble_sets(older) is ensemble_sets(older[:1]) is None
    with pytest.raises(ConfigError, match=r"conformal\.coverage=0\.6"):
        ensemble_sets(older[:1], 0.6)
    mixed = [older[0], *cards[1:]]
    assert ensemble_sets(mixed, 0.6) == ensemble_sets(cards, 0.6)


def test_ensemble_has_the_prediction_sets_of_its_coverage(ensemble: Ensemble) -> None:
    members = with_validation(ensemble)
    networks = [TorchClassifier(bundle, "cpu") for bundle in members]
    for coverage in (None, 0.6):
        classifiers = ClassifierEnsemble(networks, views=VIEWS["none"], explained=None, batch_size=1, coverage=coverage)
        assert classifiers.conformal == ensemble_sets([bundle.card for bundle in members], coverage)
        assert classifiers.in_one_view().conformal == classifiers.conformal


def test_spread_is_computed_from_mean_probabilities_of_each_view(ensemble: Ensemble, images: list[RgbImage]) -> None:
    localizations = Localizer(None, start=MaskSource.CONTOUR)(images)
    member_probs = []
    for bundle in ensemble:
        network = Classifier(TorchClassifier(bundle, "cpu"), views=VIEWS["d4"], batch_size=8)
        logits = network.view_logits([network.cut(*pair) for pair in zip(images, localizations, strict=True)])
        bias = np.array(bundle.card.logit_bias or [0.0])
        member_probs.append(torch.from_numpy(logits / bundle.card.temperature + bias).softmax(2).numpy())
    expected = np.mean(member_probs, axis=0).std(0).max(1)
    assert [finding.tta_spread for finding in findings(ensemble, images)] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [finding.tta_spread for finding in findings(ensemble, images, views="none")] == [None] * len(images)


@pytest.mark.parametrize(("views", "explained"), [("none", "predicted"), ("d4", "predicted"), ("d4", "vasc")])
def test_heatmap_is_the_mean_in_the_frame_of_the_first_classifier(
    ensemble: Ensemble, images: list[RgbImage], views: str, explained: str
) -> None:
    together = findings(ensemble, images, views=views, explained=explained)
    predicted_alone = set()
    for number, finding in enumerate(together):
        assert finding.class_map is not None
        code = finding.diagnosis if explained == "predicted" else explained
        assert finding.class_map.diagnosis == code
        alone = [findings([bundle], [images[number]], views=views, explained=code)[0] for bundle in ensemble]
        expected = mean_heatmap([heatmap_of(one) for one in alone], [one.crop_box for one in alone])
        np.testing.assert_allclose(finding.class_map.values, expected, atol=1e-5)
        assert finding.class_map.values.shape == (3, 3) != heatmap_of(alone[1]).shape
        assert finding.crop_box == alone[0].crop_box
        np.testing.assert_array_equal(finding.crop, alone[0].crop)
        predicted_alone |= {one.diagnosis == finding.diagnosis for one in alone}
    assert predicted_alone == {True, False}


def test_order_of_classifiers_changes_only_the_frame(ensemble: Ensemble, images: list[RgbImage]) -> None:
    found = findings(ensemble, images, explained="mel")
    reversed_order = findings(ensemble[::-1], images, explained="mel")
    np.testing.assert_allclose(probs_of(reversed_order), probs_of(found), atol=1e-12)
    assert [finding.tta_spread for finding in reversed_order] == pytest.approx([finding.tta_spread for finding in found])
    assert all(finding.crop_box == Box(0, 0, 75, 100) for finding in reversed_order)
    assert {heatmap_of(finding).shape for finding in reversed_order} == {(4, 4)}


def test_least_side_depends_on_the_largest_network(ensemble: Ensemble) -> None:
    networks = [TorchClassifier(bundle, "cpu") for bundle in ensemble]
    classifiers = ClassifierEnsemble(networks, views=VIEWS["none"], explained=None, batch_size=1)
    assert Pipeline(Localizer(None, start=MaskSource.CONTOUR), classifiers).least_side == 3 * 160


# Mean heatmaps


def random_map(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).random(shape, dtype=np.float32)


def test_maps_of_one_frame_give_their_exact_mean() -> None:
    maps, box = [random_map(7, 7), random_map(7, 7) ** 2, np.zeros((7, 7), dtype=np.float32)], Box(13, 29, 113, 124)
    np.testing.assert_array_equal(mean_heatmap(maps[:1], [box]), maps[0])
    expected = np.mean(maps, axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(mean_heatmap(maps, [box] * 3), expected)


def test_constant_maps_stay_constant_on_any_grid() -> None:
    maps = [np.full(shape, 0.25, dtype=np.float32) for shape in [(3, 5), (8, 8), (1, 1), (2, 7)]]
    boxes = [Box(10, 10, 50, 60), Box(0, 0, 90, 90), Box(20, 30, 33, 37), Box(40, 5, 80, 31)]
    np.testing.assert_allclose(mean_heatmap(maps, boxes), maps[0], rtol=1e-6)


def test_finer_maps_are_averaged_and_coarser_ones_repeated() -> None:
    frame, zeros, fine = Box(0, 0, 40, 60), np.zeros((2, 3), dtype=np.float32), random_map(6, 6)
    blocks = fine.reshape(2, 3, 3, 2).mean((1, 3))
    np.testing.assert_allclose(mean_heatmap([zeros, fine], [frame, frame]), blocks / 2, rtol=1e-6)
    coarse = random_map(1, 3)
    np.testing.assert_allclose(mean_heatmap([zeros, coarse], [frame, frame]), np.repeat(coarse, 2, axis=0) / 2, rtol=1e-6)


def test_maps_count_only_where_they_reach() -> None:
    zeros, one = np.zeros((1, 4), dtype=np.float32), np.ones((1, 1), dtype=np.float32)
    # The box covers the second and half of the third of four cells, and an area above the frame.
    found = mean_heatmap([zeros, one], [Box(10, 0, 20, 40), Box(0, 10, 20, 25)])
    np.testing.assert_allclose(found, [[0, 1 / 2, 0.5 / 1.5, 0]])
    assert mean_heatmap([zeros, one], [Box(10, 0, 20, 40), Box(90, 0, 99, 40)]).max() == 0


# Loading


def settings(folders: Sequence[Path], **values: Any) -> PipelineSettings:
    return PipelineSettings(classifier=tuple(map(str, folders)), localize="contour", device="cpu", **values)


def test_pickled_settings_load_the_same_ensemble(
    ensemble_folders: list[Path], ensemble: Ensemble, images: list[RgbImage]
) -> None:
    pickled = pickle.loads(pickle.dumps(settings(ensemble_folders)))
    found = load_pipeline(**vars(pickled))(images[:2])
    np.testing.assert_allclose(probs_of(found), probs_of(findings(ensemble, images[:2])), atol=1e-6)
    assert [finding.flagged for finding in found] == [None, None]


def test_ray_engine_makes_paths_absolute(ensemble_folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "connect", lambda: False)
    monkeypatch.setattr(ray_engine, "nodes_of_cluster", lambda: [{"CPU": 2.0}])
    monkeypatch.chdir(ensemble_folders[0].parent)
    relative = settings([Path(folder.name) for folder in ensemble_folders])
    assert RayEngine(relative, workers=1).settings.classifier == tuple(map(str, ensemble_folders))
    assert RayEngine(PipelineSettings(device="cpu"), workers=1).settings.classifier is None


def test_class_unknown_to_the_ensemble_cannot_be_explained(ensemble_folders: list[Path]) -> None:
    with pytest.raises(ConfigError, match=r"explain\.diagnosis must be one of mel, nv, .*, got 'scc'"):
        load_pipeline(**vars(settings(ensemble_folders, explain_diagnosis="scc")))


def test_duplicate_model_is_refused_but_not_another_calibration(ensemble_folders: list[Path], tmp_path: Path) -> None:
    first, second, _ = ensemble_folders
    with pytest.raises(BundleError, match=f"must name each model once, got the same one in {first} and in {first}; leave one"):
        CPU.load_classifiers([second, first, first])
    shutil.copytree(first, tmp_path / "copy")
    with pytest.raises(BundleError, match=f"got the same one in {first} and in {tmp_path / 'copy'}"):
        CPU.load_classifiers([first, second, tmp_path / "copy"])
    bundle = load_classifier(first)
    save_bundle(tmp_path / "copy", bundle.model, replace(bundle.card, temperature=9.0))
    assert len(CPU.load_classifiers([first, second, tmp_path / "copy"])) == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": CODES[::-1]}, rf"classes and their order, got {', '.join(CODES)} in \S+ and {', '.join(CODES[::-1])} in"),
        ({"classes": ("a", *CODES[1:]), "malignant": (), "operating_points": ()}, r"classes .* and a, nv, .* in"),
        ({"malignant": ()}, rf"malignant and their order, got {', '.join(MALIGNANT_CODES)} in \S+ and none in"),
        ({"malignant": MALIGNANT_CODES[:1]}, "malignant and their order, got .* and mel in"),
    ],
)
def test_models_with_other_classes_are_refused(
    ensemble_folders: list[Path], tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    bundle = load_classifier(ensemble_folders[2])
    save_bundle(tmp_path / "other", bundle.model, replace(bundle.card, **changed))
    with pytest.raises(BundleError, match=rf"models that agree in {message} {tmp_path / 'other'}; leave one out"):
        CPU.load_classifiers([*ensemble_folders[:2], tmp_path / "other"])
