"""Refusal of a segmenter that has seen test lesions of a training."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from segpipe.bundle.card import SegmenterBundle
from segpipe.bundle.records import Training
from segpipe.bundle.saving import save_bundle
from segpipe.config.prediction import SegmenterBundleConfig
from segpipe.config.schemas import TrainClsConfig
from segpipe.data.check import CheckedDataset
from segpipe.data.splits import PARTS
from segpipe.errors import BundleError
from segpipe.training.preparation import TrainingData
from segpipe.workflows.unseen_segmenter import load_unseen_segmenter


@pytest.mark.parametrize(
    ("dataset", "split", "allowed", "refused"),
    [
        ("own", "own", False, False),
        ("own", "other", False, True),
        ("own", "other", True, False),
        ("other", "other", False, False),
    ],
)
def test_segmenter_that_has_seen_the_test_lesions_is_refused_unless_allowed(
    segmenter: SegmenterBundle, tmp_path: Path, dataset: str, split: str, allowed: bool, refused: bool
) -> None:
    table = pd.DataFrame({"image_id": list("abcdefghij"), "lesion_id": [f"L{number // 2}" for number in range(10)]})
    parts = table.assign(part=["train"] * 6 + ["val"] * 2 + ["test"] * 2)
    rows = {part: parts[parts["part"] == part] for part in PARTS}
    data = TrainingData(CheckedDataset("tiny", table, ()), parts[["image_id", "lesion_id", "part"]], rows)
    seen: Training = replace(
        segmenter.card.training,
        dataset_hash=data.dataset_hash if dataset == "own" else "other",
        split_hash=data.split_hash if split == "own" else "other",
    )
    save_bundle(tmp_path / "unet", segmenter.model, replace(segmenter.card, training=seen))
    config = TrainClsConfig(bundle=SegmenterBundleConfig(str(tmp_path / "unet")), allow_leak=allowed)
    if refused:
        with pytest.raises(BundleError, match=r"another split of this data set, .*allow_leak=true"):
            load_unseen_segmenter(config, data)
    else:
        assert load_unseen_segmenter(config, data).network is not None
