"""What a training reads: images with masks for the segmenter, cut-out lesions with labels for the classifier."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from segpipe.data.augmentation import Augmentation
from segpipe.data.cache import Arrays, open_examples
from segpipe.io.images import read_image, read_mask
from segpipe.lesion.crop import CropRule, cut_lesion, full_box, mask_box, resize_mask, resize_square
from segpipe.types import FloatArray, RgbImage

_SAMPLING_POWERS = {"none": 1.0, "square_root": 0.5, "balanced": 0.0}


@dataclass(frozen=True)
class Draw:
    """Which example to take, and the seed of its random changes."""

    index: int
    seed: int


class SeededSampler(Sampler[Draw]):
    """A new order and new random changes in each epoch, all given by the seed and the epoch's number.

    Nothing is remembered from epoch to epoch, so a training that is resumed sees what an unbroken one would have seen.

    Args:
        length: number of examples.
        seed: of order and changes.
        rank: of this process among those that share the order out, one example to each in turn.
        world: number of these processes; each takes as many, so up to `world - 1` examples of an epoch are left out.
        shares: of each example in the draws, float (length,), with sum 1: an epoch draws `length` times with replacement.
            None takes each example once.
    """

    def __init__(self, length: int, *, seed: int, rank: int = 0, world: int = 1, shares: FloatArray | None = None) -> None:
        self.length = length
        self.shares = shares
        self.seed = seed
        self.epoch = 0
        self._share = slice(rank, length - length % world, world)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self.length)[self._share])

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.length) if self.shares is None else rng.choice(self.length, self.length, p=self.shares)
        seeds = rng.integers(2**31, size=self.length)
        return (Draw(int(index), int(seed)) for index, seed in zip(order[self._share], seeds[self._share], strict=True))


def class_shares(counts: Sequence[int], sampler: str) -> FloatArray:
    """How often each class is drawn in a training.

    Args:
        counts: training images of each class.
        sampler: `none`, as they occur; `balanced`, equally often; or `square_root`, by the root of their number, which is between
            the two (arXiv 1805.00932).

    Returns:
        float (C,), with sum 1; 0 for a class without images.
    """
    images = np.asarray(counts, float)
    shares = np.where(images > 0, images ** _SAMPLING_POWERS[sampler], 0.0)
    return np.asarray(shares / shares.sum())


@dataclass(frozen=True)
class MaskDecoding:
    """An image and its lesion mask, scaled to the network's square: uint8 (size, size, 3), and (size, size), 0 or 1."""

    size: int

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of the arrays of an example."""
        return {"image": (self.size, self.size, 3), "mask": (self.size, self.size)}

    def __call__(self, image_path: str, mask_path: str | None) -> Arrays:
        """Decode one example; it must have a mask."""
        image = resize_square(read_image(Path(image_path)), self.size)
        return image, resize_mask(read_mask(Path(str(mask_path))), self.size).astype(np.uint8)


@dataclass(frozen=True)
class CropDecoding:
    """A lesion cut out by the box of its true mask, as inference cuts it: uint8 (size, size, 3).

    An image without a mask is cropped as inference crops when it finds no lesion: not at all.
    """

    size: int
    rule: CropRule

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of the array of an example."""
        return {"crop": (self.size, self.size, 3)}

    def __call__(self, image_path: str, mask_path: str | None) -> Arrays:
        """Decode one example."""
        image = read_image(Path(image_path))
        mask = np.ones(image.shape[:2], bool) if mask_path is None else read_mask(Path(mask_path))
        box = full_box(image) if mask_path is None else mask_box(mask)
        _, pixels = cut_lesion(image, mask, box, self.rule, size=self.size)
        return (pixels,)


class MaskDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images and lesion masks, see `MaskDecoding`, with their random changes.

    Each item is `(pixels, mask)`: uint8 (3, size, size) and float32 (1, size, size), 0 or 1.

    Args:
        table: rows with `image_id`, `image_path` and `mask_path`.
        size: side of the network's square, pixels.
        cache: folder of decoded examples; None decodes each time.
        augmentation: the random changes; None for none.
    """

    def __init__(
        self, table: pd.DataFrame, *, size: int, cache: str | None = None, augmentation: Augmentation | None = None
    ) -> None:
        self._examples = open_examples(table, MaskDecoding(size), cache=cache)
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        image, stored_mask = self._examples[draw.index]
        mask = stored_mask.astype(bool)
        if self._augmentation is not None:
            image, mask = self._augmentation.image_and_mask(image, mask, seed=draw.seed)
        return pixels_of(image), torch.from_numpy(mask[None].astype(np.float32))


class CropDataset(Dataset[tuple[Any, ...]]):
    """Lesions cut out by the boxes of their true masks, see `CropDecoding`, with labels and random changes.

    Each item is `(pixels, label)`: uint8 (3, size, size) and the index of the diagnosis; with `teacher_probs` also the
    probabilities of the image, whatever its random changes.

    Args:
        table: rows with `image_id`, `image_path`, `mask_path`, which may be None, and `dx`.
        classes: codes of the diagnoses, in the order of the labels.
        rule: how a lesion is cut out.
        size: side of the network's square, pixels.
        cache: folder of decoded examples; None decodes each time.
        augmentation: the random changes; None for none.
        teacher_probs: probabilities of each row, float, shape (rows, classes); None for no teacher.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        classes: Sequence[str],
        rule: CropRule,
        size: int,
        cache: str | None = None,
        augmentation: Augmentation | None = None,
        teacher_probs: NDArray[np.float32] | None = None,
    ) -> None:
        self._examples = open_examples(table, CropDecoding(size, rule), cache=cache)
        self.labels = [classes.index(code) for code in table["dx"]]
        self._augmentation = augmentation
        self._teacher_probs = teacher_probs

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, draw: Draw) -> tuple[Any, ...]:
        (crop,) = self._examples[draw.index]
        if self._augmentation is not None:
            crop = self._augmentation.image(crop, seed=draw.seed)
        taught = () if self._teacher_probs is None else (self._teacher_probs[draw.index],)
        return pixels_of(crop), self.labels[draw.index], *taught


def pixels_of(image: RgbImage) -> Tensor:
    """An image as a tensor, uint8 (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
