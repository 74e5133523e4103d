"""What a training reads: images with masks for the segmenter, cut-out lesions with labels for the classifier."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from segpipe.data.augmentation import Augmentation, BoxJitter, shift_box
from segpipe.image_io import BoolMask, RgbImage, read_image, read_mask
from segpipe.lesion.crop import CropRule, crop_box, cut_out, full_box, mask_box, resize_square


@dataclass(frozen=True)
class Draw:
    """Which example to take, and the seed of its random changes."""

    index: int
    seed: int


class SeededSampler(Sampler[Draw]):
    """A new order and new random changes in each epoch, all given by the seed and the epoch's number.

    Nothing is remembered from epoch to epoch, so a training that is resumed sees what an unbroken one would have seen.
    """

    def __init__(self, length: int, *, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order, seeds = rng.permutation(self.length), rng.integers(2**31, size=self.length)
        return (Draw(int(index), int(seed)) for index, seed in zip(order, seeds, strict=True))


class MaskDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images and lesion masks, scaled to the network's square.

    Each item is `(pixels, mask)`: uint8 (3, size, size) and float32 (1, size, size), 0 or 1.
    """

    def __init__(self, table: pd.DataFrame, *, size: int, augmentation: Augmentation | None = None) -> None:
        self._images = list(table["image_path"])
        self._masks = list(table["mask_path"])
        self._size = size
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        image = resize_square(read_image(Path(self._images[draw.index])), self._size)
        mask = resize_mask(read_mask(Path(self._masks[draw.index])), self._size)
        if self._augmentation is not None:
            image, mask = self._augmentation.image_and_mask(image, mask, seed=draw.seed)
        return pixels_of(image), torch.from_numpy(mask[None].astype(np.float32))


class CropDataset(Dataset[tuple[Tensor, int]]):
    """Lesions cut out by the boxes of their true masks, with labels.

    Each item is `(pixels, label)`: uint8 (3, size, size) and the index of the diagnosis. An image without a mask is cropped as
    inference crops when it finds no lesion: not at all.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        classes: Sequence[str],
        rule: CropRule,
        size: int,
        jitter: BoxJitter | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self._images = list(table["image_path"])
        self._masks = list(table["mask_path"])
        self.labels = [classes.index(code) for code in table["dx"]]
        self._rule = rule
        self._size = size
        self._jitter = jitter
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        image = read_image(Path(self._images[draw.index]))
        mask_path = self._masks[draw.index]
        mask = np.ones(image.shape[:2], bool) if mask_path is None else read_mask(Path(mask_path))
        box = full_box(image) if mask_path is None else mask_box(mask)
        if self._jitter is not None:
            shifts = self._jitter.draw(np.random.default_rng(draw.seed))
            box = shift_box(box, shifts, height=image.shape[0], width=image.shape[1])
        crop = cut_out(image, mask, crop_box(image, box, self._rule), keep_background=self._rule.keep_background)
        crop = resize_square(crop, self._size)
        if self._augmentation is not None:
            crop = self._augmentation.image(crop, seed=draw.seed)
        return pixels_of(crop), self.labels[draw.index]


def resize_mask(mask: BoolMask, size: int) -> BoolMask:
    """Scale a mask, bool (H, W), to bool (size, size): a pixel is lesion where at least half of its area is."""
    grey = resize_square(mask.astype(np.uint8) * 255, size)
    return grey >= 128


def pixels_of(image: RgbImage) -> Tensor:
    """An image as a tensor, uint8 (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
