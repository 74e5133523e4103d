"""Fine-tuning of a bundle to other classes, and scores of the result."""

import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSIFIER, SEGMENTER, Ended, Trained, call, read_json, results
from PIL import Image

from segpipe.bundle.folder import load_classifier, load_segmenter
from segpipe.data.splits import read_split
from segpipe.data.synthetic.photo import make_image
from segpipe.io.images import read_mask
from segpipe.training import parts
from segpipe.training.fine_tuning import score_weights

# Invented classes with spaces, capitals and signs, and the diagnoses that they are drawn as.
DRAWN_AS = {"Dark spot (old)": "mel", "mole": "nv", "red-spot": "vasc"}


@pytest.fixture(scope="module")
def own_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs for each class, and one photograph outside."""
    root = tmp_path_factory.mktemp("own images")
    rng = np.random.default_rng(0)
    for name, code in DRAWN_AS.items():
        (root / name).mkdir()
        for number in range(12):
            Image.fromarray(make_image(code, rng, (60, 80))[0]).save(root / name / f"{code}{number:02}.png")
    shutil.copyfile(root / "mole" / "nv00.png", root / "unsorted.png")
    return root


@pytest.fixture(scope="module")
def table(own_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of classes and lesions, two photographs of each lesion."""
    path = tmp_path_factory.mktemp("tables") / "labels, mine.csv"
    files = sorted(own_images.glob("*/*.png"))
    rows = [(file.name, file.parent.name, f"{file.parent.name} {int(file.stem[-2:]) // 2}") for file in files]
    pd.DataFrame(rows, columns=["image", "label", "lesion_id"]).to_csv(path, index=False)
    return path


def fine_tune(trained: Trained, root: Path, output: Path, *arguments: str, data: str = "folders") -> Ended:
    start = f"classifier.init={trained.folder / 'cls' / 'bundle'}"
    every = (*CLASSIFIER, start, trained.bundles[0], "trainer.max_epochs=2", "trainer.accelerator=cpu", "batch_size=8")
    return call("train_cls", f"data={data}", f"data.root={root}", "data.cache=null", *every, *arguments, output=output)


@pytest.fixture(scope="module")
def tuned(trained: Trained, own_images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    output = tmp_path_factory.mktemp("tuned") / "out"
    ended = fine_tune(trained, own_images, output, "data.without_lesion_ids=true", "data.malignant=['Dark spot (old)']")
    assert ended.status == 0, ended.err
    return output, ended


def test_bundle_has_the_classes_of_the_folders(tuned: tuple[Path, Ended]) -> None:
    card = load_classifier(tuned[0] / "bundle").card
    assert card.classes == tuple(DRAWN_AS)
    assert card.malignant == ("Dark spot (old)",)
    assert not card.training.leaks_allowed
    scores = read_json(tuned[0] / "test" / "metrics.json")["classification"]
    assert scores["images"] == 6
    assert {f"sensitivity_{name}" for name in DRAWN_AS} <= set(scores["metrics"])


def test_starting_weights_and_found_masks_are_reported(tuned: tuple[Path, Ended], trained: Trained) -> None:
    lines = tuned[1].out.splitlines()
    start = trained.folder / "cls" / "bundle"
    (line,) = [line for line in lines if line.startswith("starting weights: ")]
    assert line.startswith(f"starting weights: {start}, ")
    assert line.endswith(", ".join(DRAWN_AS))
    assert "1 x image without metadata (unsorted): left out" in lines
    split = read_split(tuned[0] / "split.csv")
    found = {path.stem for path in (tuned[0] / "found_masks").iterdir()}
    assert found <= set(split.loc[split["part"] != "test", "image_id"])
    line = f"training and validation images without a mask: 30; the lesion was found in {len(found)} of them"
    assert line in lines
    assert len(found) > 20


def test_pipeline_scores_other_classes(
    tuned: tuple[Path, Ended], trained: Trained, own_images: Path, table: Path, tmp_path: Path
) -> None:
    bundle = f"bundle.classifier={tuned[0] / 'bundle'}"
    done = call(
        *("run_pipeline", trained.bundles[0], bundle, f"folder={own_images}", f"labels={table}", "figures=true", "device=cpu"),
        output=tmp_path / "out",
    )
    assert done.status == 0, done.err
    found = results(tmp_path / "out")
    probs = found[[f"p_{name}" for name in DRAWN_AS]]
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)
    assert set(found["diagnosis"]) <= set(DRAWN_AS)
    np.testing.assert_allclose(found["p_malignant"].astype(float), probs["p_Dark spot (old)"], atol=1e-6)
    scores = read_json(tmp_path / "out" / "metrics.json")["classification"]
    assert (scores["images"], scores["images_without_label"], scores["intervals_over"]) == (36, 1, "lesion")
    assert scores["metrics"]["support_Dark spot (old)"]["value"] == 12
    # The training cropped by the masks that the pipeline finds.
    for trained_on in (tuned[0] / "found_masks").iterdir():
        now = next((tmp_path / "out" / "masks").rglob(trained_on.name))
        np.testing.assert_array_equal(read_mask(trained_on), read_mask(now))
    assert (tmp_path / "out" / "figures" / "mole" / "nv00.png").is_file()
    assert (tmp_path / "out" / "plots" / "confusion_matrix.png").is_file()


def test_table_has_classes_and_lesions(trained: Trained, own_images: Path, table: Path, tmp_path: Path) -> None:
    more = (f"data.table={table}", "trainer.max_epochs=1", "data.fold=0")
    ended = fine_tune(trained, own_images, tmp_path / "out", *more, data="csv")
    assert ended.status == 0, ended.err
    card = load_classifier(tmp_path / "out" / "bundle").card
    assert (card.classes, card.malignant) == (tuple(DRAWN_AS), ())
    assert read_split(tmp_path / "out" / "split.csv").groupby("lesion_id")["part"].nunique().max() == 1
    assert str(table) not in (tmp_path / "out" / "bundle" / "card.json").read_text()
    # Masks that the segmenter found for the crops are not true masks, so they do not score it.
    held_out = read_json(tmp_path / "out" / "out_of_fold" / "metrics.json")
    assert held_out["classification"]["test_set"]["part"] == "val"
    assert "segmentation" not in held_out


def test_same_classes_keep_the_linear_layer(trained: Trained, tmp_path: Path) -> None:
    start = trained.folder / "cls" / "bundle"
    rest = (*trained.data, *CLASSIFIER, trained.bundles[0], "trainer.max_epochs=1", "optimizer.lr=1e-9")
    ended = call("train_cls", *rest, f"classifier.init={start}", output=tmp_path / "out")
    assert ended.status == 0, ended.err
    assert f"starting weights: {start}\n" in ended.out
    before, after = load_classifier(start).model, load_classifier(tmp_path / "out" / "bundle").model
    torch.testing.assert_close(after.linear.weight, before.linear.weight, atol=1e-6, rtol=0)


def fine_tune_same(trained: Trained, kind: str, output: Path, *arguments: str) -> Ended:
    """Fine-tune a bundle on the data and split that it was trained on."""
    name, networks = ("segmenter", SEGMENTER) if kind == "seg" else ("classifier", CLASSIFIER)
    start = f"{name}.init={trained.folder / kind / 'bundle'}"
    segmenter = [] if kind == "seg" else [trained.bundles[0]]
    return call(f"train_{kind}", *trained.data, *networks, *segmenter, start, "trainer.max_epochs=1", *arguments, output=output)


@pytest.mark.parametrize("kind", ["seg", "cls"])
def test_start_is_kept_where_no_epoch_is_better(
    trained: Trained, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_start_as(monkeypatch, 2.0)
    ended = fine_tune_same(trained, kind, tmp_path / "out")
    assert ended.status == 0, ended.err
    load, part = (load_segmenter, "segmenter_alone") if kind == "seg" else (load_classifier, "classification")
    start, kept = load(trained.folder / kind / "bundle"), load(tmp_path / "out" / "bundle")
    for name, weights in start.model.state_dict().items():
        torch.testing.assert_close(kept.model.state_dict()[name], weights, atol=0, rtol=0)
    monitor, metric = ("val_dice", "dice") if kind == "seg" else ("val_auroc", "macro_auroc")
    assert kept.card.training.start["kept"]
    worse = pd.read_csv(tmp_path / "out" / "metrics.csv").loc[0, monitor]
    assert kept.card.training.start["scores"][monitor] == 2.0
    metrics = read_json(tmp_path / "out" / "test" / "metrics.json")
    compared = metrics["fine_tuning"]
    assert (compared["kept"], compared["images"]) == ("start", metrics["images"])
    values = compared["metrics"][metric]
    assert values["start"]["value"] == pytest.approx(metrics[part]["metrics"][metric]["value"])
    assert values["change"]["value"] == pytest.approx(values["fine_tuned"]["value"] - values["start"]["value"])
    interval = compared["metrics"]["dice" if kind == "seg" else "accuracy"]["change"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    (line,) = [line for line in ended.out.splitlines() if "start is kept" in line]
    assert f"{monitor} {worse:.4f}" in line
    assert ended.out.splitlines()[-2] == f"bundle in {tmp_path / 'out' / 'bundle'}"


@pytest.mark.parametrize("kind", ["seg", "cls"])
def test_better_weights_are_kept_and_compared_with_the_start(
    trained: Trained, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_start_as(monkeypatch, -1.0)
    ended = fine_tune_same(trained, kind, tmp_path / "out")
    assert ended.status == 0, ended.err
    card = (load_segmenter if kind == "seg" else load_classifier)(tmp_path / "out" / "bundle").card
    assert not card.training.start["kept"]
    metrics = read_json(tmp_path / "out" / "test" / "metrics.json")
    part, metric = ("segmenter_alone", "dice") if kind == "seg" else ("classification", "macro_auroc")
    before = read_json(trained.folder / kind / "test" / "metrics.json")[part]["metrics"][metric]["value"]
    values = metrics["fine_tuning"]["metrics"][metric]
    assert metrics["fine_tuning"]["kept"] == "fine_tuned"
    assert values["fine_tuned"]["value"] == pytest.approx(metrics[part]["metrics"][metric]["value"])
    assert values["start"]["value"] == pytest.approx(before)


def score_start_as(monkeypatch: pytest.MonkeyPatch, score: float) -> None:
    """Give the starting weights a score, and losses above all others."""
    numbers = count()

    def scored(*given: Any) -> Any:
        start = score_weights(*given)
        if next(numbers):  # after the fit
            return start
        scores = {**start.scores, "val_dice": score, "val_auroc": score}
        return replace(start, scores=scores, losses=[loss + 1 for loss in start.losses])

    monkeypatch.setattr(parts, "score_weights", scored)


def test_start_without_these_classes_is_not_compared(tuned: tuple[Path, Ended]) -> None:
    assert load_classifier(tuned[0] / "bundle").card.training.start == {}
    assert "fine_tuning" not in read_json(tuned[0] / "test" / "metrics.json")


def test_some_of_the_classes_keep_their_outputs(trained: Trained, tmp_path: Path) -> None:
    root, rng = tmp_path / "few", np.random.default_rng(0)
    for code in ("nv", "mel"):
        (root / code).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(make_image(code, rng, (60, 80))[0]).save(root / code / f"{code}{number}.png")
    ended = fine_tune(
        trained, root, tmp_path / "out", "data.without_lesion_ids=true", "optimizer.lr=1e-9", "trainer.max_epochs=1"
    )
    assert ended.status == 0, ended.err
    before, after = load_classifier(trained.folder / "cls" / "bundle"), load_classifier(tmp_path / "out" / "bundle")
    rows = [before.card.classes.index(code) for code in after.card.classes]
    assert set(after.card.classes) == {"nv", "mel"}
    torch.testing.assert_close(after.model.linear.weight, before.model.linear.weight[rows], atol=1e-6, rtol=0)
    assert "val_loss" in after.card.training.start["scores"]
    assert "segmenter_part" not in read_json(tmp_path / "out" / "test" / "metrics.json")
    assert "8 steps of 8 images" in ended.out


def test_bundle_records_the_images_of_its_starting_weights(tuned: tuple[Path, Ended], trained: Trained) -> None:
    before = load_classifier(trained.folder / "cls" / "bundle").card.training.seen
    after = load_classifier(tuned[0] / "bundle").card.training.seen
    eights = {
        name: {part: {text[i : i + 8] for i in range(0, len(text), 8)} for part, text in seen.items()}
        for name, seen in {"before": before, "after": after}.items()
    }
    assert eights["before"]["train"] < eights["after"]["train"]
    assert eights["before"]["val"] < eights["after"]["val"]


@pytest.mark.parametrize("kind", ["seg", "cls"])
def test_start_trained_on_validation_or_test_lesions_is_refused_unless_allowed(
    trained: Trained, tmp_path: Path, kind: str
) -> None:
    """The data set has fewer images, but the same lesions."""
    data = Path(shutil.copytree(trained.folder / "data", tmp_path / "data"))
    names = pd.read_csv(data / "HAM10000_metadata.csv")["image_id"]
    for image_id in names[::7]:
        next(data.rglob(f"{image_id}.jpg")).unlink()
    name, networks = ("segmenter", SEGMENTER) if kind == "seg" else ("classifier", CLASSIFIER)
    start = f"{name}.init={trained.folder / kind / 'bundle'}"
    every = ("data=ham10000", f"data.root={data}", "data.cache=null", *networks, start, "trainer.max_epochs=1", "seed=9")
    every += ("trainer.accelerator=cpu", "batch_size=8", *([] if kind == "seg" else [trained.bundles[0]]))
    refused = call(f"train_{kind}", *every, output=tmp_path / "refused")
    assert refused.status == 2
    assert refused.error.startswith(f"{name}.init was trained on lesions of this run's val or test part (")
    allowed = call(f"train_{kind}", *every, "allow_leak=true", output=tmp_path / "allowed")
    assert allowed.status == 0, allowed.err
    load = load_segmenter if kind == "seg" else load_classifier
    assert load(tmp_path / "allowed" / "bundle").card.training.leaks_allowed


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["classifier.attention=none"], "but differs in classifier.attention; set classifier.attention=cbam"),
        (["classifier.name=resnet10t"], "but differs in classifier.name; set classifier.name=test_efficientnet"),
        (["data.without_lesion_ids=false"], "has no lesion ids, and a split without them leaks"),
        (["data.malignant=[mel]"], "data.malignant must name classes among Dark spot (old), mole, red-spot, got mel"),
        (["classifier.init=absent"], "shipped, or an existing path, got 'absent'"),
        (["data=csv"], "data.table"),
        (["data=csv", "data.table=absent.csv"], "data.table must be an existing path, got 'absent.csv'"),
    ],
)
def test_wrong_call_is_one_line_and_status_2(
    trained: Trained, own_images: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    ended = fine_tune(trained, own_images, tmp_path / "out", "data.without_lesion_ids=true", *arguments)
    assert ended.status == 2, ended.err
    assert reason in ended.error


def test_bundle_of_a_segmenter_is_refused_as_a_start(trained: Trained, own_images: Path, tmp_path: Path) -> None:
    start = f"classifier.init={trained.folder / 'seg' / 'bundle'}"
    ended = fine_tune(trained, own_images, tmp_path / "out", "data.without_lesion_ids=true", start)
    assert ended.status == 2
    assert "must be the bundle of a classifier, got that of a segmenter" in ended.error
