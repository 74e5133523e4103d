"""Training that starts from a bundle: its network, and what it has seen."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from segpipe.bundle.card import ClassifierBundle
from segpipe.bundle.card_file import SHIPPED
from segpipe.bundle.folder import load_classifier, load_segmenter
from segpipe.config.groups import ClassifierConfig, DataConfig, SegmenterConfig
from segpipe.config.schemas import TrainClsConfig, TrainConfig, TrainSegConfig
from segpipe.config.training_groups import OptimizerConfig, UnfreezeConfig
from segpipe.data.check import CheckedDataset
from segpipe.data.duplicates import find_seen, fingerprint_parts
from segpipe.data.splits import PARTS, read_split
from segpipe.errors import BundleError, ConfigError
from segpipe.training import classifier as classifier_training
from segpipe.training.preparation import TrainingData
from segpipe.training.starting_weights import refuse_other_network, start_bundle, start_card


def config_of(stage: str, init: object) -> TrainConfig:
    if stage == "segmenter":
        return TrainSegConfig(segmenter=SegmenterConfig(init=str(init)))
    return TrainClsConfig(classifier=ClassifierConfig(init=str(init)))


def data_of(parts: str) -> TrainingData:
    """Make a data set with one image per letter: `t` for train, `v` for val, others for test."""
    names = {"t": "train", "v": "val"}
    rows = [(f"i{number}", f"l{number}", names.get(letter, "test"), "nv") for number, letter in enumerate(parts)]
    table = pd.DataFrame(rows, columns=["image_id", "lesion_id", "part", "dx"])
    return TrainingData(CheckedDataset("own", table, ()), table, {part: table[table["part"] == part] for part in PARTS})


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_start_is_a_folder_or_the_shipped_bundle(kind: str, bundles: Path) -> None:
    assert start_bundle(config_of(kind, "shipped")) == SHIPPED / kind
    assert start_bundle(config_of(kind, bundles / kind)) == bundles / kind
    for other in ("random", "imagenet", bundles / kind / "model.safetensors"):
        assert start_bundle(config_of(kind, other)) is None
        assert start_card(config_of(kind, other)) is None


def test_bundle_of_the_other_stage_and_empty_folder_are_refused(bundles: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="must be the bundle of a classifier, got that of a segmenter"):
        start_card(config_of("classifier", bundles / "segmenter"))
    with pytest.raises(BundleError, match=r"a bundle must be a folder with model.safetensors and card.json"):
        start_card(config_of("classifier", tmp_path))


def test_other_network_is_refused_with_the_keys_to_set(bundles: Path) -> None:
    config = config_of("segmenter", bundles / "segmenter")
    card = start_card(config)
    assert card is not None
    refuse_other_network(config, card, card.arguments)
    with pytest.raises(
        ConfigError,
        match=r"differs in segmenter.encoder, segmenter.decoder_channels; "
        r"set segmenter.encoder=tu-test_efficientnet 'segmenter.decoder_channels=\[16,16,8,8,8\]'$",
    ):
        refuse_other_network(config, card, {"encoder": "tu-resnet18", "decoder_channels": [8, 8, 8, 8, 8]})


def test_all_weights_of_the_bundle_are_loaded(bundles: Path, classifier: ClassifierBundle) -> None:
    network = ClassifierConfig(
        name="test_efficientnet", attention="cbam", dropout=0.5, input_size=64, init=str(bundles / "classifier")
    )
    data = DataConfig("segpipe.data.loaders.load_ham10000", str(bundles))
    config = TrainClsConfig(
        data=data,
        classifier=network,
        unfreeze=UnfreezeConfig(from_epochs=[0]),
        optimizer=OptimizerConfig("torch.optim.SGD", lr=0.1),
    )
    model, _ = classifier_training.build_untrained(config)
    expected = classifier.model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert model.dropout.p == 0.5


def test_model_that_has_seen_no_held_out_lesion_is_accepted() -> None:
    data = data_of("tttvss")
    model = load_classifier(SHIPPED / "classifier").card.training
    data.refuse_seen(model, key="classifier.init", allowed=False)
    data.refuse_seen(replace(model, seen=fingerprint_parts(data.parts)), key="classifier.init", allowed=False)


def test_model_trained_on_held_out_lesions_is_refused_unless_allowed() -> None:
    """Data set and split differ here."""
    data, before = data_of("tttvss"), data_of("tttttvss")
    model = replace(load_classifier(SHIPPED / "classifier").card.training, seen=fingerprint_parts(before.parts))
    with pytest.raises(
        BundleError, match=r"^classifier.init was trained on lesions of this run's val or test part \(3 images, i3 for one\); use"
    ):
        data.refuse_seen(model, key="classifier.init", allowed=False)
    data.refuse_seen(model, key="classifier.init", allowed=True)


def test_card_of_an_older_version_is_compared_by_hashes(bundles: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundles / "segmenter", tmp_path / "old"))
    card = json.loads((folder / "card.json").read_text())
    data = data_of("tttvss")
    del card["training"]["seen"]
    card["training"] |= {"dataset_hash": data.dataset_hash, "split_hash": data.split_hash}
    (folder / "card.json").write_text(json.dumps(card))
    old = load_segmenter(folder).card.training
    assert old.seen == {}
    data.refuse_seen(old, key="bundle.segmenter", allowed=False)
    with pytest.raises(BundleError, match=r"bundle.segmenter was trained on another split of this data set, so it has seen test"):
        data.refuse_seen(replace(old, split_hash="another"), key="bundle.segmenter", allowed=False)
    data.refuse_seen(replace(old, dataset_hash="another", split_hash="another"), key="bundle.segmenter", allowed=False)


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_shipped_cards_list_the_lesions_of_their_training(kind: str) -> None:
    split = read_split(SHIPPED / "split.csv")
    parts = {part: split[split["part"] == part] for part in PARTS}
    seen = (load_segmenter if kind == "segmenter" else load_classifier)(SHIPPED / kind).card.training.seen
    assert find_seen(parts, seen) == []
    others = {"train": parts["test"], "val": parts["train"], "test": parts["val"]}
    assert len(find_seen(others, seen)) == len(parts["train"]) + len(parts["val"])
