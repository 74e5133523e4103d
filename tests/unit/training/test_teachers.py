"""Teachers of a training: accepted bundles and kept predictions."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import segpipe.config.schemas  # noqa: F401 - registers the schemas
from segpipe.bundle.card import ClassifierBundle
from segpipe.bundle.folder import load_classifier
from segpipe.bundle.saving import save_bundle
from segpipe.config import CONF
from segpipe.config.composing import typed
from segpipe.config.values import check_values
from segpipe.data.duplicates import fingerprint_parts
from segpipe.data.loaders import load_ham10000
from segpipe.diagnosis import CODES
from segpipe.errors import BundleError, ConfigError, OutputError
from segpipe.inference.stages import Classifier
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.io.images import read_image, read_mask
from segpipe.lesion.localization import Localization, MaskSource
from segpipe.models.classifier import build_classifier
from segpipe.training.preparation import TrainingData, origin_cards
from segpipe.training.starting_weights import read_teachers
from segpipe.types import mask_box
from segpipe.workflows import distillation
from segpipe.workflows.distillation import predict_for_training, refuse_unfit

IMAGES = 5


def composed(*overrides: str) -> Any:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train_cls", ["data=synthetic", *overrides])


def configure(*overrides: str) -> Any:
    return typed(composed(*overrides))


def with_masks(rows: pd.DataFrame, paths: list[str | None]) -> pd.DataFrame:
    return rows.assign(mask_path=pd.Series(paths, index=rows.index, dtype=object))


@pytest.fixture
def data(synthetic_root: Path) -> TrainingData:
    """Make a few training images; the first has no mask."""
    dataset = load_ham10000(str(synthetic_root))
    lesions = dataset.table["lesion_id"].drop_duplicates().tolist()
    names = {lesion: ("val", "test", "train")[min(number, 2)] for number, lesion in enumerate(lesions)}
    split = dataset.table.assign(part=dataset.table["lesion_id"].map(names))
    parts = {str(part): rows.reset_index(drop=True) for part, rows in split.groupby("part")}
    parts["train"] = with_masks(parts["train"][:IMAGES], [None, *parts["train"]["mask_path"][1:IMAGES]])
    return TrainingData(dataset, split, parts)


def predict(data: TrainingData, cache: Path, *folders: Path, views: str = "flips", output: Path = Path("none")) -> Any:
    config = configure(f"distill.teacher=[{','.join(map(str, folders))}]", f"distill.views={views}", f"data.cache={cache}")
    if cache == Path("null"):
        config.data.cache = None
    return predict_for_training(read_teachers(config), data, config, output)


def expected(data: TrainingData, bundle: ClassifierBundle, *, views: str = "flips") -> np.ndarray:
    """Mean over the views of the softmax of logits that are divided by the temperature, without their shift."""
    classifier = Classifier(TorchClassifier(bundle, "cpu"), views=VIEWS[views], batch_size=8)
    crops = []
    for path, mask_path in zip(data.parts["train"]["image_path"], data.parts["train"]["mask_path"], strict=True):
        image = read_image(Path(path))
        mask = np.ones(image.shape[:2], bool) if mask_path is None else read_mask(Path(mask_path))
        crops.append(classifier.cut(image, Localization(mask, mask_box(mask), MaskSource.UNET, ())))
    logits = torch.from_numpy(classifier.view_logits(crops)) / bundle.card.temperature
    return logits.softmax(2).mean(0).numpy()


def test_teachers_and_views_are_averaged_each_on_its_own_crop(
    data: TrainingData, ensemble: list[ClassifierBundle], ensemble_folders: list[Path], tmp_path: Path
) -> None:
    probs, line = predict(data, tmp_path / "cache", *ensemble_folders)
    members = [expected(data, bundle) for bundle in ensemble]
    np.testing.assert_allclose(probs, np.mean(members, axis=0), atol=1e-5)
    assert (probs.dtype, probs.shape) == (np.float32, (IMAGES, len(CODES)))
    correct = np.mean([CODES[index] == code for index, code in zip(probs.argmax(1), data.parts["train"]["dx"], strict=True)])
    assert re.findall(r"\d+(?:\.\d+%)?", line.partition(" from ")[0]) == ["3", f"{correct:.1%}", "5", "3", "0"]


def test_each_teacher_runs_once_for_the_same_images(
    data: TrainingData, ensemble_folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    monkeypatch.setattr(distillation, "load_classifier", lambda folder: loaded.append(folder) or load_classifier(folder))
    cache, (first, second, _) = tmp_path / "cache", ensemble_folders
    one, _ = predict(data, cache, first)
    other, line = predict(data, cache, first, second)
    assert loaded == [first, second]
    assert "predictions of 1 computed, of 1 read" in line
    copied = shutil.copytree(first, tmp_path / "copied")
    again, _ = predict(data, cache, copied)
    assert loaded == [first, second]
    np.testing.assert_array_equal(again, one)
    assert not np.array_equal(other, one)
    predict(data, cache, first, views="none")
    card = load_classifier(first).card
    save_bundle(copied, load_classifier(first).model, replace(card, crop=replace(card.crop, margin_fraction=0.7)))
    predict(data, cache, copied)
    parts = {**data.parts, "train": with_masks(data.parts["train"], [None] * IMAGES)}
    predict(replace(data, parts=parts), cache, first)
    assert loaded == [first, second, first, copied, first]


def test_changed_image_is_predicted_again(
    data: TrainingData, bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.png"
    paths = [str(path), *data.parts["train"]["image_path"][1:]]
    changed = replace(data, parts={**data.parts, "train": data.parts["train"].assign(image_path=paths)})
    answers = []
    for value in (40, 200):
        Image.fromarray(np.full((64, 80, 3), value, np.uint8)).save(path)
        answers.append(predict(changed, tmp_path / "cache", bundles / "classifier")[0])
    np.testing.assert_array_equal(answers[0][1:], answers[1][1:])
    assert not np.allclose(answers[0][0], answers[1][0])


def test_without_a_cache_the_output_keeps_the_predictions(data: TrainingData, bundles: Path, tmp_path: Path) -> None:
    teacher = bundles / "classifier"
    probs, _ = predict(data, Path("null"), teacher, output=tmp_path)
    again, line = predict(data, Path("null"), teacher, output=tmp_path)
    np.testing.assert_array_equal(again, probs)
    assert len(list((tmp_path / "teachers").iterdir())) == 1
    assert "predictions of 0 computed, of 1 read" in line


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", "shape", "values"])
def test_damaged_predictions_are_one_line(data: TrainingData, bundles: Path, tmp_path: Path, content: bytes | str) -> None:
    predict(data, tmp_path, bundles / "classifier")
    (path,) = tmp_path.iterdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, np.zeros((IMAGES, len(CODES) + (content == "shape")), np.float32))
    with pytest.raises(OutputError, match=r"is damaged \([^\n]*\); delete that file and start again$"):
        predict(data, tmp_path, bundles / "classifier")


def with_classes(bundle: ClassifierBundle, folder: Path, classes: tuple[str, ...]) -> Path:
    """Save a copy with outputs for these classes."""
    arguments = bundle.card.arguments
    model = build_classifier(classes=len(classes), **arguments).eval()
    rows = [CODES.index(code) for code in classes if code in CODES]
    state = bundle.model.state_dict()
    linear = {name: state[name][rows] for name in ("linear.weight", "linear.bias")}
    model.load_state_dict(state | linear)
    save_bundle(folder, model, replace(bundle.card, classes=classes, malignant=()))
    return folder


def test_class_order_is_that_of_the_training(
    data: TrainingData, classifier: ClassifierBundle, bundles: Path, tmp_path: Path
) -> None:
    turned = with_classes(classifier, tmp_path / "turned", CODES[::-1])
    teachers = read_teachers(configure(f"distill.teacher={turned}"))
    refuse_unfit(teachers, data, allowed=False)
    probs, _ = predict(data, tmp_path / "cache", turned)
    np.testing.assert_allclose(probs, predict(data, tmp_path / "cache", bundles / "classifier")[0], atol=1e-6)


def test_teacher_of_other_classes_is_refused(data: TrainingData, classifier: ClassifierBundle, tmp_path: Path) -> None:
    fewer = with_classes(classifier, tmp_path / "fewer", CODES[:3])
    with pytest.raises(BundleError, match=r"^distill\.teacher must name classifiers of the classes of this training, .*fewer"):
        refuse_unfit(read_teachers(configure(f"distill.teacher={fewer}")), data, allowed=True)


def test_teacher_that_has_seen_held_out_lesions_is_refused_and_the_seen_ones_are_recorded(
    data: TrainingData, classifier: ClassifierBundle, tmp_path: Path
) -> None:
    def teacher(parts: dict[str, Any]) -> Any:
        training = replace(classifier.card.training, seen=fingerprint_parts(parts))
        save_bundle(tmp_path / "teacher", classifier.model, replace(classifier.card, training=training))
        return configure(f"distill.teacher={tmp_path / 'teacher'}")

    refuse_unfit(read_teachers(teacher(data.parts)), data, allowed=False)
    config = teacher({"train": data.parts["test"], "val": data.parts["val"]})
    with pytest.raises(BundleError, match=r"^distill\.teacher=.*teacher was trained on lesions of this run's val or test part"):
        refuse_unfit(read_teachers(config), data, allowed=False)
    refuse_unfit(read_teachers(config), data, allowed=True)
    assert [card.training.seen for card in origin_cards(config)] == [
        fingerprint_parts({"train": data.parts["test"], "val": data.parts["val"]})
    ]


def test_segmenter_and_repeated_model_are_refused(bundles: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"must be the bundle of a classifier, got that of a segmenter"):
        read_teachers(configure(f"distill.teacher={bundles / 'segmenter'}"))
    teacher, copied = bundles / "classifier", shutil.copytree(bundles / "classifier", tmp_path / "copied")
    for twice in (teacher, copied):
        with pytest.raises(BundleError, match=r"distill\.teacher must name each model once"):
            read_teachers(configure(f"distill.teacher=[{teacher},{twice}]"))


@pytest.mark.parametrize(
    ("override", "key"),
    [
        *[
            (f"distill.teacher={value}", "teacher")
            for value in ("absent", "[]", "[absent]", "[null]", "{a:b}", "true", "''", __file__)
        ],
        *[(f"distill.temperature={value}", "temperature") for value in ("0", "-1", "101", "nan")],
        *[(f"distill.label_weight={value}", "label_weight") for value in ("-0.1", "1.1", "inf")],
        ("distill.views=all", "views"),
    ],
)
def test_invalid_values_are_refused(override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^distill\.{key}\S* must "):
        check_values(composed(override))


def test_training_has_no_teacher_by_default(data: TrainingData, tmp_path: Path) -> None:
    config = configure()
    assert read_teachers(config) == {}
    assert predict_for_training({}, data, config, tmp_path) == (None, None)
    assert list(tmp_path.iterdir()) == []
