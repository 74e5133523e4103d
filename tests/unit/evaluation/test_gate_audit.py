"""Fit of the input gate, and its measurement by the command."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segpipe.bundle.card import SegmenterBundle
from segpipe.bundle.folder import load_segmenter
from segpipe.bundle.saving import save_bundle, save_reference
from segpipe.cli.main import main
from segpipe.data.loaders import load_ham10000
from segpipe.data.splits import write_split
from segpipe.data.synthetic.dataset import write_dataset
from segpipe.evaluation.gate import ACCEPTED, choose_limit, fit_features, fit_gate, has_enough_images
from segpipe.evaluation.gate_audit import BOXED, SKIN
from segpipe.inference.evidence import UNLIKE_TRAINING
from segpipe.inference.gate import Gate
from segpipe.inference.stages import Localizer
from segpipe.inference.torch_runtime import TorchSegmenter
from segpipe.io.images import read_image
from segpipe.io.run_files import GATE, GATE_AUDIT, SPLIT

NOISE = np.random.default_rng(3).integers(0, 256, (150, 200, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set with images large enough for the rules."""
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    write_dataset(folder, lesions=35, images_per_lesion=2, height=150, width=200, seed=0)
    return folder


@pytest.fixture(scope="module")
def parts(root: Path) -> dict[str, pd.DataFrame]:
    table = load_ham10000(str(root)).table
    lesions = sorted(table["lesion_id"].unique())
    dealt = {lesion: "val" if number < 10 else "test" if number < 15 else "train" for number, lesion in enumerate(lesions)}
    table = table.assign(part=table["lesion_id"].map(dealt))
    return {part: table[table["part"] == part] for part in ("train", "val", "test")}


def test_gate_accepts_validation_images_and_rejects_noise(segmenter: SegmenterBundle, parts: dict[str, pd.DataFrame]) -> None:
    network = TorchSegmenter(segmenter, "cpu")
    fitted = fit_gate(network, parts["train"], parts["val"])
    gate, localizer = Gate(fitted.reference), Localizer(network)

    def score(image: np.ndarray) -> float:
        return gate.score(localizer.with_features([image])[1][0])

    scores = np.array([score(read_image(Path(path))) for path in parts["val"]["image_path"]])
    assert np.abs(scores - 1).min() < 1e-3  # the limit is the distance of one of them
    assert (scores <= 1.001).mean() >= ACCEPTED - 1 / len(scores)
    assert score(NOISE) > 2
    assert fitted.images == parts["train"]["lesion_id"].nunique()
    assert sum(array.nbytes for array in fitted.reference.arrays.values()) < 100_000


def test_gate_needs_images_and_features(segmenter: SegmenterBundle, parts: dict[str, pd.DataFrame]) -> None:
    network = TorchSegmenter(segmenter, "cpu")
    with pytest.raises(ValueError, match="3 and"):
        fit_gate(network, parts["train"].drop_duplicates("lesion_id").head(3), parts["val"])
    with pytest.raises(ValueError, match="and 0"):
        fit_gate(network, parts["train"], parts["val"].head(0))
    assert has_enough_images(parts["train"], parts["val"])
    assert not has_enough_images(parts["train"].drop_duplicates("lesion_id").head(3), parts["val"])
    assert not has_enough_images(parts["train"], parts["val"].head(0))


def test_limit_accepts_the_fraction_by_rules_and_score_together() -> None:
    distances = np.random.default_rng(0).permutation(1000) + 1.0
    rules = np.zeros(1000, bool)
    assert choose_limit(distances, rules) == 950
    rules[distances > 980] = True
    assert choose_limit(distances, rules) == 950
    rules[:] = distances <= 20
    assert choose_limit(distances, rules) == 970
    assert choose_limit(distances, distances <= 100) == 1000


def test_features_of_a_gaussian_are_fitted() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 40))
    features = (rng.normal(size=(4000, 5)) @ mixing + 0.3 * rng.normal(size=(4000, 40)) + 7).astype(np.float32)
    features[:, 0] = 2  # a constant feature
    distances = fit_features(features).distances(features)
    assert (distances**2).mean() == pytest.approx(39, rel=0.05)


def test_audit_measures_each_kind_of_image(
    segmenter: SegmenterBundle, parts: dict[str, pd.DataFrame], root: Path, tmp_path: Path, capsys
) -> None:
    folder, outside = tmp_path / "segmenter", tmp_path / "noise"
    outside.mkdir()
    for number in range(3):
        Image.fromarray(np.roll(NOISE, number)).save(outside / f"{number}.png")
    save_bundle(folder, segmenter.model, segmenter.card)
    write_split(tmp_path / SPLIT, pd.concat(parts.values()))
    arguments = ["audit", "gate", f"data.root={root}", f"outside={outside}", f"bundle.segmenter={folder}", "images=4"]
    assert main(arguments) == 0
    assert "rules alone" in capsys.readouterr().out

    fitted = fit_gate(TorchSegmenter(segmenter, "cpu"), parts["train"], parts["val"])
    save_reference(folder, GATE, load_segmenter(folder).card, fitted.reference, images=fitted.images, source="a test")
    assert main([*arguments, f"output={tmp_path / 'audit'}"]) == 0
    printed = capsys.readouterr().out
    assert "rules alone" not in printed
    audit = json.loads((tmp_path / "audit" / GATE_AUDIT).read_text())
    sets = audit["sets"]
    assert audit["segmenter"] and audit["gate"] and audit["has_score"]
    assert {"validation", "test", BOXED, SKIN, "noise"} < set(sets)
    assert len(sets) == 10
    assert (sets["noise"]["images"], sets["noise"]["rejected"], sets["noise"]["reasons"][UNLIKE_TRAINING]) == (3, 1, 3)
    assert sets["noise"]["low"] < 0.5 < sets["noise"]["high"]
    assert sets[SKIN]["images"] == 0 and sets[SKIN]["rejected"] is None  # the images are smaller than a strip
    for name, found in sets.items():
        assert f"| {name} | {found['images']} |" in printed

    shutil.rmtree(tmp_path / "audit")
    (tmp_path / SPLIT).unlink()
    assert main(arguments) == 2
    assert "split=CSV" in capsys.readouterr().err
