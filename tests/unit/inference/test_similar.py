"""Similar cases: exact distances, lesions and copies that are left out, and damaged indexes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segpipe.bundle.card import ClassifierBundle, ClassifierCard
from segpipe.bundle.references import Reference, read_reference
from segpipe.bundle.saving import save_bundle, save_reference
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES
from segpipe.errors import BundleError
from segpipe.evaluation.similar import build_reference
from segpipe.inference.ensemble import ClassifierEnsemble
from segpipe.inference.evidence import Similar, SimilarCase, decode_cases, decode_vote
from segpipe.inference.networks import Float32Array
from segpipe.inference.similar import CASES, SimilarIndex
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.io.run_files import SIMILAR
from segpipe.lesion.localization import MaskSource

LESIONS, CHANNELS = 60, 24
TABLE = pd.DataFrame(
    {
        "image_id": [f"I{number}" for number in range(2 * LESIONS)],
        "lesion_id": [f"L{number % LESIONS}" for number in range(2 * LESIONS)],
        "dx": [CODES[number % LESIONS % len(CODES)] for number in range(2 * LESIONS)],
    }
)


@pytest.fixture(scope="module")
def features() -> Float32Array:
    """Features of one photograph of each lesion, of another scale in each channel."""
    rng = np.random.default_rng(3)
    scales = np.geomspace(100, 1, CHANNELS)
    return (rng.normal(size=(LESIONS, CHANNELS)) * scales + rng.normal(size=CHANNELS) * scales).astype(np.float32)


@pytest.fixture(scope="module")
def reference(features: Float32Array) -> Reference:
    return build_reference(features, TABLE, CODES)


@pytest.fixture(scope="module")
def queries() -> Float32Array:
    return (np.random.default_rng(4).normal(size=(20, CHANNELS)) * np.geomspace(100, 1, CHANNELS)).astype(np.float32)


def whitened(features: Float32Array, query: Float32Array) -> Float32Array:
    """Return the cosine distances of whitened features, by brute force."""
    mean = features.astype(np.float64).mean(0)
    # The inverse square root of the covariance whitens as principal components do, up to a rotation.
    values, vectors = np.linalg.eigh(np.cov((features - mean).T))
    white = vectors / np.sqrt(values)
    points, point = (features - mean) @ white, (query - mean) @ white
    return 1 - points @ point / np.linalg.norm(points, axis=1) / np.linalg.norm(point)


def test_cases_are_the_nearest_by_brute_force(features: Float32Array, reference: Reference, queries: Float32Array) -> None:
    index = SimilarIndex(reference, CODES)
    for query in queries:
        found, expected = index.find(query), whitened(features, query)
        assert not found.known
        assert len(found.cases) == CASES
        shown = [int(case.lesion_id[1:]) for case in found.cases]
        np.testing.assert_allclose([case.distance for case in found.cases], expected[shown], atol=0.01)
        assert [case.distance for case in found.cases] == sorted(case.distance for case in found.cases)
        others = np.delete(expected, shown)
        assert expected[shown].max() < others.min() + 0.02
        for case, row in zip(found.cases, shown, strict=True):
            assert (case.image_id, case.diagnosis) == (f"I{row}", CODES[row % len(CODES)])


def test_vote_weighs_all_cases_by_their_distance(features: Float32Array, reference: Reference, queries: Float32Array) -> None:
    index, bandwidth = SimilarIndex(reference, CODES), reference.values["bandwidth"]
    for query in queries:
        weights = np.exp(-whitened(features, query) / bandwidth)
        expected = np.array([weights[np.arange(LESIONS) % len(CODES) == number].sum() for number in range(len(CODES))])
        vote = index.find(query).vote
        assert list(vote) == list(CODES)
        assert sum(vote.values()) == pytest.approx(1)
        np.testing.assert_allclose(list(vote.values()), expected / expected.sum(), atol=0.03)


def test_no_case_is_of_the_same_lesion(reference: Reference, queries: Float32Array) -> None:
    index = SimilarIndex(reference, CODES)
    for query in queries:
        for lesion in index.find(query).cases:
            for image_id in TABLE["image_id"][TABLE["lesion_id"] == lesion.lesion_id]:  # the second one is not in the index
                found = index.find(query, image_id=image_id)
                assert found.known
                assert len(found.cases) == CASES
                assert lesion.lesion_id not in {case.lesion_id for case in found.cases}
    assert index.find(queries[0], image_id="elsewhere") == index.find(queries[0])


def test_near_copies_are_left_out_and_said(features: Float32Array, reference: Reference) -> None:
    index = SimilarIndex(reference, CODES)
    rng = np.random.default_rng(5)
    for row in range(LESIONS):
        copy = features[row] + 0.05 * rng.normal(size=CHANNELS).astype(np.float32) * features.std(0)
        found = index.find(copy)
        assert found.known
        assert f"L{row}" not in {case.lesion_id for case in found.cases}
        assert found == index.find(copy, image_id=f"I{row}")


@pytest.mark.parametrize("lesions", [2, 5])
def test_a_small_index_gives_fewer_cases(lesions: int, features: Float32Array) -> None:
    rows = TABLE[:lesions]
    index = SimilarIndex(build_reference(features[:lesions], rows, CODES), CODES)
    found = index.find(features[30])
    assert len(found.cases) == lesions
    assert len(index.find(features[30], image_id="I0").cases) == lesions - 1
    assert sum(found.vote.values()) == pytest.approx(1)


def test_fields_of_a_result_are_read_as_written() -> None:
    cases = tuple(
        SimilarCase(image_id, "nv", 0.25, "L") for image_id in ("ISIC_0024306", "a b/c:d;e=%3B.jpg", "ä,\"'", "100%", ":")
    )
    vote = {"nv": 0.75, "mel": 0.24999999, "bcc": 1.25e-9}
    fields = Similar(cases, vote, known=False).to_dict()
    assert fields["similar"].startswith("ISIC_0024306:nv:0.2500;")
    read = decode_cases(fields["similar"])
    assert [case.image_id for case in read] == [case.image_id for case in cases]
    assert {(case.diagnosis, case.distance) for case in read} == {("nv", 0.25)}
    assert decode_vote(fields["similar_vote"]) == pytest.approx(vote, rel=1e-3)
    assert fields["similar_known"] is False
    assert decode_cases("") == ()


def damaged(reference: Reference, key: str) -> Reference:
    """Return reference data with one part changed."""
    arrays, values = dict(reference.arrays), dict(reference.values)
    if key == "values":
        values = {}
    elif key == "nan":
        arrays["mean"] = np.full_like(arrays["mean"], np.nan)
    elif key == "diagnoses":
        arrays["diagnoses"] = arrays["diagnoses"] + len(CODES)
    elif key in arrays:
        arrays[key] = arrays[key][1:]
    else:
        values[key] = {"bandwidth": 0.0, "images": [[]] * LESIONS, "lesions": [1] * LESIONS, "classes": CODES[::-1]}[key]
    return Reference(arrays, values)


@pytest.mark.parametrize(
    "key", ["values", "nan", "diagnoses", "mean", "components", "points", "bandwidth", "images", "lesions", "classes"]
)
def test_an_index_that_does_not_fit_is_refused(key: str, reference: Reference) -> None:
    with pytest.raises(BundleError, match=SIMILAR):
        SimilarIndex(damaged(reference, key), CODES)


@pytest.fixture
def saved(classifier: ClassifierBundle, reference: Reference, tmp_path: Path) -> tuple[Path, ClassifierCard]:
    save_bundle(tmp_path / "bundle", classifier.model, classifier.card)
    card = save_reference(tmp_path / "bundle", SIMILAR, classifier.card, reference, images=LESIONS, source="drawn")
    return tmp_path / "bundle", card


def test_a_saved_index_finds_the_same_cases(
    saved: tuple[Path, ClassifierCard], reference: Reference, queries: Float32Array
) -> None:
    folder, card = saved
    read = read_reference(folder, SIMILAR, card)
    assert read is not None
    indexes = SimilarIndex(read, card.classes), SimilarIndex(reference, card.classes)
    for query in queries:
        assert indexes[0].find(query) == indexes[1].find(query)


def test_a_damaged_index_is_refused(saved: tuple[Path, ClassifierCard]) -> None:
    folder, card = saved
    content = bytearray((folder / SIMILAR).read_bytes())
    content[-1] ^= 1
    (folder / SIMILAR).write_bytes(content)
    with pytest.raises(BundleError, match=SIMILAR):
        read_reference(folder, SIMILAR, card)


@pytest.mark.parametrize("tta", ["none", "d4", "crops"])
def test_features_are_those_of_the_first_view_and_crop(tta: str, ensemble: list[ClassifierBundle]) -> None:
    rng = np.random.default_rng(5)
    images = [make_image(code, rng, (90, 120))[0] for code in CODES]
    networks = [TorchClassifier(bundle, "cpu") for bundle in ensemble]
    localizations = Localizer(None, start=MaskSource.CONTOUR)(images)
    single = ClassifierEnsemble(networks[:1], views=VIEWS["none"], explained=None, batch_size=4)
    several = ClassifierEnsemble(networks, views=VIEWS[tta], explained=None, batch_size=64)
    found, expected = (
        members([members.cut(*pair) for pair in zip(images, localizations, strict=True)]) for members in (several, single)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.features, other.features, atol=1e-5)
