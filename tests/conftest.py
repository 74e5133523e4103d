"""Shared fixtures: tiny networks with random weights, a generated data set, HAM10000."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from tiny import TRAINING, drawn_batch, settle, tiny_classifier

from segpipe.bundle.card import ClassifierBundle, SegmenterBundle, SegmenterCard
from segpipe.bundle.saving import save_bundle
from segpipe.config import CONF
from segpipe.data.synthetic.dataset import write_dataset
from segpipe.data.synthetic.photo import make_image
from segpipe.diagnosis import CODES
from segpipe.io.images import write_png
from segpipe.lesion.crop import CropRule
from segpipe.metrics.operating_points import OperatingPoint
from segpipe.models.preprocessing import InputSpec
from segpipe.models.unet import build_unet

torch.set_num_threads(1)  # faster for networks as small as these

with suppress(ImportError):
    # OpenVINO imports absl, whose log handler closes its stream when Hydra configures logging: here one that pytest captures.
    from absl import logging as absl_logging

    absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(scope="session")
def segmenter() -> SegmenterBundle:
    """U-Net with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        arguments = {"encoder": "tu-test_efficientnet", "decoder_channels": [16, 16, 8, 8, 8]}
        spec = InputSpec(64)
        model = settle(build_unet(**arguments), drawn_batch(spec))
        return SegmenterBundle(model, SegmenterCard(arguments=arguments, input=spec, training=TRAINING), "u" * 64)


@pytest.fixture(scope="session")
def classifier() -> ClassifierBundle:
    """A classifier of 96 pixels with a margin of a quarter."""
    return tiny_classifier("test_efficientnet", 96, sha256="c" * 64, crop=CropRule(margin_fraction=0.25), temperature=1.5)


@pytest.fixture(scope="session")
def ensemble(classifier: ClassifierBundle) -> list[ClassifierBundle]:
    """Three classifiers with different networks, sizes, crops and calibrations."""
    tight, whole = CropRule(margin_fraction=0), CropRule(whole_image=True)
    bias = (0.5, -0.5, 0.2, 0.0, 0.1, -0.3, 0.0)
    members = [
        classifier,
        tiny_classifier("test_resnet", 160, sha256="d" * 64, crop=tight, temperature=0.7),
        tiny_classifier("test_convnext", 128, sha256="e" * 64, crop=whole, logit_bias=bias),
    ]
    points = (OperatingPoint("mel", 0.1),)
    return [replace(bundle, card=replace(bundle.card, operating_points=points)) for bundle in members]


@pytest.fixture(scope="session")
def few_resamples() -> Iterator[None]:
    """Intervals from 40 resamples instead of 1,000."""
    from segpipe.evaluation import changes, score  # late, because it imports pandas, scikit-learn and matplotlib
    from segpipe.metrics import bootstrap as groups

    with pytest.MonkeyPatch.context() as patch:
        for module in (changes, score, groups):
            patch.setattr(module, "RESAMPLES", 40)
        yield


@pytest.fixture(scope="session")
def bundles(segmenter: SegmenterBundle, classifier: ClassifierBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segmenter and classifier on disk, in `segmenter/` and `classifier/`."""
    folder = tmp_path_factory.mktemp("bundles")
    save_bundle(folder / "segmenter", segmenter.model, segmenter.card)
    save_bundle(folder / "classifier", classifier.model, classifier.card)
    return folder


@pytest.fixture(scope="session")
def ensemble_folders(ensemble: list[ClassifierBundle], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Classifiers of the ensemble on disk."""
    folder = tmp_path_factory.mktemp("ensemble")
    folders = [folder / bundle.card.arguments["name"] for bundle in ensemble]
    for bundle, path in zip(ensemble, folders, strict=True):
        save_bundle(path, bundle.model, bundle.card)
    return folders


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set of 21 lesions in HAM10000's layout."""
    root = tmp_path_factory.mktemp("data") / "synthetic"
    write_dataset(root, lesions=21, images_per_lesion=3, height=64, width=80, seed=0)
    return root


@pytest.fixture(scope="session")
def ham10000() -> Path:
    """Folder of HAM10000 in the layout of Harvard Dataverse."""
    root = os.environ.get("SEGPIPE_HAM10000")
    if not root or not Path(root).is_dir():
        pytest.skip(f"needs HAM10000: SEGPIPE_HAM10000 must name its folder, got {root!r}")
    return Path(root)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Ten drawn images with their masks, as rows of a checked data set."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(10):
        image, mask = make_image(CODES[number % 7], rng, (60, 80))
        Image.fromarray(image).save(folder / f"{number}.png")
        write_png(folder / f"{number}_segmentation.png", mask)
        paths = {"image_path": str(folder / f"{number}.png"), "mask_path": str(folder / f"{number}_segmentation.png")}
        rows.append({"image_id": str(number), "lesion_id": f"L{number // 2}", "dx": CODES[number % 7], **paths})
    return pd.DataFrame(rows)


@pytest.fixture
def hydra() -> Iterator[None]:
    """Hydra with the configurations of segpipe, for `compose`."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
