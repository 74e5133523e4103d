"""Training data: reproducible, cropped as in inference, in an order given by seed and epoch."""

from dataclasses import replace
from pathlib import Path

import albumentations as A
import numpy as np
import pandas as pd
import pytest
import torch

from segpipe.bundle.card import ClassifierBundle
from segpipe.data.augmentation import Augmentation
from segpipe.data.datamodules import SeededDataModule
from segpipe.data.datasets import CropDataset, Draw, MaskDataset, SeededSampler, class_probs
from segpipe.data.loaders import load_ham10000
from segpipe.diagnosis import CODES
from segpipe.inference.stages import Classifier
from segpipe.inference.torch_runtime import TorchClassifier
from segpipe.inference.tta import VIEWS
from segpipe.io.images import read_image, read_mask
from segpipe.lesion.crop import CropRule, full_box, reflect_square, resize_mask, resize_square
from segpipe.lesion.localization import Localization, MaskSource, localize
from segpipe.models.preprocessing import InputSpec
from segpipe.types import mask_box

SIZE = 32
RULES = (
    *(CropRule(), CropRule(margin_fraction=0.0), CropRule(whole_image=True), CropRule(keep_background=False)),
    CropRule(margin_fraction=1.0, border="reflect"),
)


@pytest.fixture(scope="module")
def table(synthetic_root: Path) -> pd.DataFrame:
    return load_ham10000(str(synthetic_root)).table


def augmentation() -> Augmentation:
    return Augmentation([A.D4(p=1.0), A.Affine(rotate=(-45, 45), p=1.0), A.ColorJitter(p=1.0)])


def masks_of(table: pd.DataFrame, **options: object) -> MaskDataset:
    return MaskDataset(table, size=SIZE, **options)


def crops_of(table: pd.DataFrame, rule: CropRule = RULES[0], **options: object) -> CropDataset:
    return CropDataset(table, classes=CODES, rule=rule, size=SIZE, **options)


def same(first: tuple, second: tuple) -> bool:
    return all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(first, second, strict=True))


def test_segmenter_example_is_a_square_image_with_its_mask(table: pd.DataFrame) -> None:
    pixels, mask = masks_of(table)[Draw(2, 0)]
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, SIZE, SIZE))
    assert (mask.dtype, mask.shape) == (torch.float32, (1, SIZE, SIZE))
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    image = resize_square(read_image(Path(table["image_path"][2])), SIZE)
    np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), image)
    true = read_mask(Path(table["mask_path"][2]))
    assert mask.mean().item() == pytest.approx(true.mean(), abs=0.03)


def test_classifier_example_is_a_crop_with_its_class_index(table: pd.DataFrame) -> None:
    examples = crops_of(table)
    assert len(examples) == len(table)
    for index, code in enumerate(table["dx"]):
        pixels, label = examples[Draw(index, 0)]
        assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, SIZE, SIZE))
        assert CODES[label] == code


@pytest.mark.parametrize("rule", RULES)
def test_crops_without_augmentation_equal_those_of_inference(
    table: pd.DataFrame, classifier: ClassifierBundle, rule: CropRule
) -> None:
    bundle = replace(classifier, card=replace(classifier.card, crop=rule, input=InputSpec(SIZE)))
    network = Classifier(TorchClassifier(bundle, "cpu"), views=VIEWS["none"], batch_size=1)
    for index in range(4):
        image, mask = read_image(Path(table["image_path"][index])), read_mask(Path(table["mask_path"][index]))
        (crop,) = network.cut(image, Localization(mask, mask_box(mask), MaskSource.UNET, ()))
        pixels, _ = crops_of(table, rule)[Draw(index, index)]
        np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), crop.pixels)


@pytest.mark.parametrize("rule", RULES)
def test_crop_without_a_mask_equals_that_of_inference_without_a_lesion(table: pd.DataFrame, rule: CropRule) -> None:
    image = read_image(Path(table["image_path"][0]))
    fallback = localize(image, None, start=MaskSource.WHOLE_IMAGE)
    assert fallback.box == full_box(image)
    pixels, _ = crops_of(table.assign(mask_path=None), rule)[Draw(0, 0)]
    expected = (resize_square if rule.border == "squeeze" else reflect_square)(image, SIZE)
    np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("build", [masks_of, crops_of])
def test_draw_determines_the_example(table: pd.DataFrame, build) -> None:
    first, second = (build(table, augmentation=augmentation()) for _ in range(2))
    second[Draw(0, 5)]
    assert same(first[Draw(1, 7)], second[Draw(1, 7)])
    assert not same(first[Draw(1, 7)], first[Draw(1, 8)])


def test_resized_mask_is_true_from_half_coverage() -> None:
    mask = np.zeros((4, 4), bool)
    mask[0, :2] = True  # half of the first quarter
    mask[2, 2] = True  # a quarter of the last
    np.testing.assert_array_equal(resize_mask(mask, 2), [[True, False], [False, False]])


def test_order_depends_on_seed_and_epoch_only() -> None:
    def order(seed: int, epoch: int) -> list[Draw]:
        sampler = SeededSampler(20, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert sorted(draw.index for draw in order(0, 0)) == list(range(20))
    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in range(2) for epoch in range(3)}) == 6
    sampler = SeededSampler(20, seed=0)
    assert list(sampler) == list(sampler) == order(0, 0)


def test_class_probs_are_natural_square_root_or_balanced() -> None:
    counts = [900, 100, 0]
    assert class_probs(counts, "none").tolist() == [0.9, 0.1, 0.0]
    assert class_probs(counts, "square_root").tolist() == [0.75, 0.25, 0.0]
    assert class_probs(counts, "balanced").tolist() == [0.5, 0.5, 0.0]


def test_examples_are_drawn_by_probability_and_split_among_processes() -> None:
    probs = np.array([0.5, 0.0] + [0.5 / 998] * 998)

    def drawn(epoch: int, rank: int = 0, world: int = 1) -> list[int]:
        sampler = SeededSampler(1000, seed=1, rank=rank, world=world, draw_probs=probs)
        sampler.set_epoch(epoch)
        return [draw.index for draw in sampler]

    whole = drawn(0)
    assert (len(whole), 1 in whole) == (1000, False)
    assert whole.count(0) / 1000 == pytest.approx(0.5, abs=0.05)
    assert drawn(0) == whole != drawn(1)
    assert [drawn(0, 0, 2), drawn(0, 1, 2)] == [whole[::2], whole[1::2]]


def loaders(table: pd.DataFrame, batch_size: int) -> SeededDataModule:
    examples = crops_of(table)
    return SeededDataModule(examples, examples, batch_size=batch_size, workers=0, seed=0)


@pytest.mark.parametrize("batch_size", [4, 5, 1000])
def test_training_drops_incomplete_batches_and_validation_reads_all_images(table: pd.DataFrame, batch_size: int) -> None:
    rows = table.head(9)
    data = loaders(rows, batch_size)
    trained = [len(labels) for _, labels in data.train_dataloader()]
    assert trained == [batch_size] * (9 // batch_size) or trained == [9]
    validated = torch.cat([labels for _, labels in data.val_dataloader()])
    assert validated.tolist() == [CODES.index(code) for code in rows["dx"]]
