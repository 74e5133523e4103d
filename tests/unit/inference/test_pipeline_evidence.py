"""Evidence of findings: gate, prediction set, similar cases and trust, through a whole pipeline."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import segpipe
from segpipe.bundle.card import ClassifierBundle, SegmenterBundle
from segpipe.bundle.saving import save_bundle, save_reference
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES
from segpipe.errors import ConfigError, ImageError
from segpipe.evaluation.gate import fit_gate
from segpipe.evaluation.similar import fit_similar
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchClassifier, TorchSegmenter
from segpipe.io.run_files import GATE, SIMILAR
from segpipe.metrics.conformal import ConformalSets
from segpipe.metrics.trust import RED, TrustRules
from segpipe.runs.results import result_columns

IMAGES = 24


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Drawn photographs of two dozen lesions."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(5)
    rows = []
    for number in range(IMAGES):
        code = CODES[number % len(CODES)]
        path = folder / f"I{number}.png"
        Image.fromarray(make_image(code, rng, (160, 200))[0]).save(path)
        rows.append({"image_id": path.stem, "lesion_id": f"L{number}", "dx": code, "image_path": str(path)})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def folder(
    segmenter: SegmenterBundle, classifier: ClassifierBundle, photographs: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Bundles with all reference data."""
    folder = tmp_path_factory.mktemp("bundles")
    unet, network = TorchSegmenter(segmenter, "cpu"), TorchClassifier(classifier, "cpu")
    save_bundle(folder / "segmenter", segmenter.model, segmenter.card)
    gate = fit_gate(unet, photographs[:16], photographs[16:])
    save_reference(folder / "segmenter", GATE, segmenter.card, gate.reference, images=16, source="drawn")
    sets = ConformalSets(0.9, dict.fromkeys(CODES, 1.0), dict.fromkeys(CODES, 2))
    card = replace(classifier.card, conformal=sets, trust=TrustRules(red_from=1))
    save_bundle(folder / "classifier", classifier.model, card)
    similar = fit_similar(Localizer(unet), network, photographs)
    save_reference(folder / "classifier", SIMILAR, card, similar, images=IMAGES, source="drawn")
    return folder


def load(folder: Path, **options: object) -> segpipe.Pipeline:
    return segpipe.load_pipeline(folder / "classifier", folder / "segmenter", runtime="torch", device="cpu", **options)


def test_finding_carries_all_evidence(folder: Path, photographs: pd.DataFrame) -> None:
    path = photographs["image_path"][0]
    finding = load(folder).predict(path)
    assert finding.gate is not None and finding.gate.score is not None
    assert finding.prediction_set is not None and set(finding.prediction_set) == set(CODES)
    assert finding.prediction_set[0] == finding.diagnosis
    assert finding.similar is not None and len(finding.similar.cases) == 8
    assert finding.trust.missing == ()
    assert "set" in finding.trust.doubts and finding.trust.color == RED
    row = finding.to_dict()
    assert list(row) == result_columns(CODES)
    assert row["trust"] == "red"
    assert row["prediction_set"].split(";") == list(finding.prediction_set)


def test_training_image_is_known_by_its_name_and_never_among_its_cases(folder: Path, photographs: pd.DataFrame) -> None:
    pipeline = load(folder)
    for path in photographs["image_path"][:3]:
        finding = pipeline.predict(path)
        assert finding.similar is not None and finding.similar.known
        assert Path(path).stem not in {case.image_id for case in finding.similar.cases}
        assert "known" in finding.trust.doubts


@pytest.mark.parametrize(("name", "known"), [("I0.PNG", True), ("folder\\I0.jpg", True), ("I0.txt", False), ("other.png", False)])
def test_name_of_a_training_image_is_read_as_everywhere(folder: Path, name: str, known: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (160, 200, 3), dtype=np.uint8)
    similar = replace(load(folder).predict(noise), path=name).similar
    assert similar is not None and similar.known == known


def test_bundles_without_reference_data_say_what_they_lack(bundles: Path, photographs: pd.DataFrame) -> None:
    finding = load(bundles, gate="off", tta="none", explain="none").predict(photographs["image_path"][0])
    assert (finding.gate, finding.prediction_set, finding.similar) == (None, None, None)
    assert finding.trust.missing == ("gate", "views", "set", "heatmap", "similar")


def test_refusal_names_the_advice_and_is_a_failure_of_a_folder(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(rng.integers(0, 255, (160, 200, 3), dtype=np.uint8)).save(images / "noise.png")
    assert load(folder).predict(images / "noise.png").trust.color == RED
    with pytest.raises(ImageError, match=r"noise\.png: the input gate rejects it: .*dermoscopic"):
        load(folder, gate="refuse").predict(images / "noise.png")
    options = {"classifier": folder / "classifier", "segmenter": folder / "segmenter", "runtime": "torch", "device": "cpu"}
    result = segpipe.predict_folder(images, tmp_path / "out", gate="refuse", **options)
    assert result.rows == []
    assert [(failure.path, failure.reason.partition(":")[0]) for failure in result.failures] == [
        ("noise.png", "the input gate rejects it")
    ]


def test_scale_gives_the_diameter_in_millimeters(folder: Path, photographs: pd.DataFrame) -> None:
    appearance = load(folder, mm_per_pixel=0.05).predict(photographs["image_path"][0]).appearance
    assert appearance.diameter_mm == pytest.approx(0.05 * appearance.diameter_px)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("gate", "on", "gate must be one of warn, refuse, off"),
        ("coverage", 1.5, "coverage must be a number above 0 and below 1"),
        ("mm_per_pixel", 0, "mm_per_pixel must be a number above 0"),
    ],
)
def test_wrong_options_are_refused(folder: Path, option: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(folder, **{option: value})
