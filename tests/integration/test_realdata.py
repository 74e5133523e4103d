"""Check, short training and shipped weights on HAM10000."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CLASSIFIER, ROOT, SEGMENTER, call, read_json, results

from segpipe.bundle.card_file import SHIPPED
from segpipe.data.splits import read_split

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.usefixtures("few_resamples"),
    pytest.mark.skipif(
        not Path(os.environ.get("SEGPIPE_HAM10000", "not set")).is_dir(), reason="SEGPIPE_HAM10000 names no folder"
    ),
]
TEST_IMAGES = 60


@pytest.fixture(scope="module")
def excerpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to 200 images and their masks, in HAM10000's layout."""
    source, root = Path(os.environ["SEGPIPE_HAM10000"]), tmp_path_factory.mktemp("excerpt") / "ham10000"
    for folder in ("HAM10000_images_part_1", "HAM10000_segmentations_lesion_tschandl"):
        (root / folder).mkdir(parents=True)
    metadata = (source / "HAM10000_metadata.csv").read_text().splitlines()
    images = sorted((source / "HAM10000_images_part_1").iterdir())[::25][:200]
    stems = {path.stem for path in images}
    rows = [line for line in metadata[1:] if line.split(",")[1] in stems]
    (root / "HAM10000_metadata.csv").write_text("\n".join([metadata[0], *rows]) + "\n")
    for path in images:
        mask = f"HAM10000_segmentations_lesion_tschandl/{path.stem}_segmentation.png"
        (root / "HAM10000_images_part_1" / path.name).symlink_to(path)
        (root / mask).symlink_to(source / mask)
    return root


def test_check_counts_the_usable_images(excerpt: Path) -> None:
    command = [sys.executable, "-m", "segpipe", "check", f"data.root={excerpt}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "ham10000: 200 usable images of " in ended.stdout
    assert "200 with a mask" in ended.stdout


def test_short_trainings_give_bundles_for_the_pipeline(excerpt: Path, tmp_path: Path) -> None:
    data = (f"data.root={excerpt}", f"data.cache={tmp_path / 'cache'}", "data.limit=150")
    common = (*data, "trainer.max_epochs=1", "trainer.accelerator=cpu", "batch_size=16")
    segmenter = call("train_seg", *common, *SEGMENTER, output=tmp_path / "seg")
    assert segmenter.status == 0, segmenter.err
    unet = f"bundle.segmenter={tmp_path / 'seg' / 'bundle'}"
    classifier = call("train_cls", *common, *CLASSIFIER, unet, "tta=none", output=tmp_path / "cls")
    assert classifier.status == 0, classifier.err
    ensemble = f"bundle.classifier={tmp_path / 'cls' / 'bundle'}"
    image = next((excerpt / "HAM10000_images_part_1").iterdir())
    ended = call("run_pipeline", unet, ensemble, image=image, output=tmp_path / "out")
    assert ended.status == 0, ended.err
    assert results(tmp_path / "out")["path"].tolist() == [image.name]


def test_shipped_weights_find_and_classify_unseen_lesions(tmp_path: Path) -> None:
    source = Path(os.environ["SEGPIPE_HAM10000"])
    split = read_split(SHIPPED / "split.csv")
    test = split[split["part"] == "test"].drop_duplicates("lesion_id")["image_id"]
    chosen = set(test[:: len(test) // TEST_IMAGES])
    (tmp_path / "images").mkdir()
    for path in sorted(source.glob("HAM10000_images_part_*/*.jpg")):
        if path.stem in chosen:
            (tmp_path / "images" / path.name).symlink_to(path)
    ended = call(
        "run_pipeline",
        folder=tmp_path / "images",
        labels=source / "HAM10000_metadata.csv",
        masks=source / "HAM10000_segmentations_lesion_tschandl",
        split=SHIPPED / "split.csv",
        part="test",
        heatmap_sample=10,
        output=tmp_path / "out",
    )
    assert ended.status == 0, ended.err
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert metrics["images"] >= TEST_IMAGES
    assert metrics["segmentation"]["metrics"]["dice"]["value"] > 0.85
    assert metrics["classification"]["metrics"]["accuracy"]["value"] > 0.5
    assert metrics["classification"]["intervals_over"] == "lesion"
