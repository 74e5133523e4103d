"""Training and predictions with four classes of ISIC 2019."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSIFIER, Ended, Trained, call, read_json, results
from PIL import Image

from segpipe.bundle.folder import load_classifier
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import ISIC_2019_CODES

FOUR = ("mel", "nv", "bcc", "bkl")


@pytest.fixture(scope="module")
def isic2019(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of four classes in folders below train/ and test/."""
    root = tmp_path_factory.mktemp("isic2019")
    rng = np.random.default_rng(0)
    for number in range(12 * len(FOUR)):
        code = FOUR[number % 4]
        folder = root / ("test" if number % 5 == 0 else "train") / code.upper()
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_image(code, rng, (60, 80))[0]).save(folder / f"ISIC_{number:07d}.jpg")
    return root


@pytest.fixture(scope="module")
def ground_truth(isic2019: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The challenge's table of the photographs; the last one is unknown."""
    names = sorted(path.stem for path in isic2019.rglob("*.jpg"))
    codes = [*(FOUR[number % 4] for number in range(len(names) - 1)), "unk"]
    one_hot = {code.upper(): [float(code == found) for found in codes] for code in (*ISIC_2019_CODES, "unk")}
    path = tmp_path_factory.mktemp("tables") / "ISIC_2019_Training_GroundTruth.csv"
    pd.DataFrame({"image": names, **one_hot}).to_csv(path, index=False)
    return path


def train(trained: Trained, root: Path, output: Path, *arguments: str) -> Ended:
    every = (*CLASSIFIER, trained.bundles[0], "trainer.max_epochs=2", "trainer.accelerator=cpu", "batch_size=8", "tta=none")
    return call("train_cls", "data=isic2019", f"data.root={root}", "data.cache=null", *every, *arguments, output=output)


@pytest.fixture(scope="module")
def four(trained: Trained, isic2019: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    output = tmp_path_factory.mktemp("four") / "out"
    ended = train(trained, isic2019, output, "data.without_lesion_ids=true", "data.classes=[bcc,bkl,mel,nv]", "loss=focal")
    assert ended.status == 0, ended.err
    return output, ended


def test_bundle_and_metrics_have_the_four_classes(four: tuple[Path, Ended]) -> None:
    output, ended = four
    card = load_classifier(output / "bundle").card
    assert (card.classes, card.malignant) == (FOUR, ("mel", "bcc"))
    assert list(card.training.settings["data"]["classes"]) == ["bcc", "bkl", "mel", "nv"]
    assert "images per diagnosis: mel 12, nv 12, bcc 12, bkl 12" in ended.out
    assert "warning:" not in ended.err
    figures = read_json(output / "test" / "metrics.json")["classification"]["metrics"]
    assert {name.removeprefix("support_") for name in figures if name.startswith("support_")} == {*FOUR, "malignant"}
    assert not (output / "test" / "submission.csv").exists()


def test_predictions_are_scored_by_the_table_of_the_challenge(
    four: tuple[Path, Ended], trained: Trained, isic2019: Path, ground_truth: Path, tmp_path: Path
) -> None:
    done = call(
        *("run_pipeline", trained.bundles[0], f"bundle.classifier={four[0] / 'bundle'}", f"folder={isic2019}"),
        *(f"labels={ground_truth}", "report=html", "explain=none", "tta=none", "device=cpu"),
        output=tmp_path / "out",
    )
    assert done.status == 0, done.err
    found = results(tmp_path / "out")
    columns = [name for name in found if name.startswith("p_")]
    assert columns == [*(f"p_{code}" for code in FOUR), "p_malignant"]
    np.testing.assert_allclose(found["p_malignant"].astype(float), found["p_mel"] + found["p_bcc"], atol=1e-6)
    assert not (tmp_path / "out" / "submission.csv").exists()
    assert (tmp_path / "out" / "report.html").is_file()
    scores = read_json(tmp_path / "out" / "metrics.json")["classification"]
    assert (scores["images"], scores["images_without_label"]) == (47, 1)
    assert scores["metrics"]["support_malignant"]["value"] == 24


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["data.classes=[mel,scc]"], "data.classes must name two or more of mel, nv, bcc, bkl, as data.root holds them"),
        (["data.malignant=[ak]"], "data.malignant must name classes among mel, nv, bcc, bkl, got ak"),
        (["data.without_lesion_ids=false"], "has no lesion ids, and a split without them leaks"),
        (["data.classes=mel"], "data.classes must be a list such as [a,b], got"),
        (["data.classes=[mel,nv]", "threshold.diagnosis=bcc"], "threshold.diagnosis must occur among the validation images"),
    ],
)
def test_wrong_call_is_one_line_and_status_2(
    trained: Trained, isic2019: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    ended = train(trained, isic2019, tmp_path / "out", "data.without_lesion_ids=true", *arguments)
    assert ended.status == 2, ended.err
    assert reason in ended.error


def test_second_remedy_against_imbalance_is_warned_of_first(trained: Trained, isic2019: Path, tmp_path: Path) -> None:
    ended = train(trained, isic2019, tmp_path / "out", "loss=weighted_cross_entropy", "sampler=balanced")
    assert ended.err.startswith("warning: loss.weighting=effective and sampler=balanced act on class imbalance at once, ")
    assert "has no lesion ids" in ended.error


def test_segmenter_without_masks_is_refused(isic2019: Path, tmp_path: Path) -> None:
    ended = call("train_seg", "data=isic2019", f"data.root={isic2019}", "data.without_lesion_ids=true", output=tmp_path / "out")
    assert ended.status == 2
    assert ended.error.startswith("data.root must hold masks to learn from, got none for its 48 images")
