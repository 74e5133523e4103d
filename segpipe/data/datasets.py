"""Training data sets: images with masks, and lesion crops with labels."""

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
from segpipe.lesion.crop import CropRule, cut_lesion, full_box, resize_mask, resize_square
from segpipe.types import FloatArray, RgbImage, mask_box

_SAMPLING_POWERS = {"none": 1.0, "square_root": 0.5, "balanced": 0.0}


@dataclass(frozen=True)
class Draw:
    """Index of an example and seed of its augmentation."""

    index: int
    seed: int


class SeededSampler(Sampler[Draw]):
    """Sampler with a new order and new seeds in each epoch.

    Both depend only on the seed and the epoch, so a resumed training draws the same examples as an uninterrupted one.

    Args:
        length: Number of examples.
        seed: Seed of order and augmentation.
        rank: Rank of this process among those that split the order, one example to each in turn.
        world: Number of processes; each takes equally many, so up to `world - 1` examples of an epoch are dropped.
        draw_probs: Probability of each example per draw, float (length,), with sum 1, for draws with replacement. None takes
            all examples in turn, each time in a new order.
        least_draws: Least number of draws in an epoch, which otherwise has `length` of them.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        draw_probs: FloatArray | None = None,
        least_draws: int = 0,
    ) -> None:
        self.length = length
        self.draw_probs = draw_probs
        self.seed = seed
        self.epoch = 0
        self._draws = max(length, least_draws)
        self._slice = slice(rank, self._draws - self._draws % world, world)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self._draws)[self._slice])

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.draw_probs is None:
            rounds = -(-self._draws // self.length)
            order = np.concatenate([rng.permutation(self.length) for _ in range(rounds)])[: self._draws]
        else:
            order = rng.choice(self.length, self._draws, p=self.draw_probs)
        seeds = rng.integers(2**31, size=self._draws)
        return (Draw(int(index), int(seed)) for index, seed in zip(order[self._slice], seeds[self._slice], strict=True))


def class_probs(counts: Sequence[int], sampler: str) -> FloatArray:
    """Compute the probability of each class in the draws of a training.

    Args:
        counts: Training images of each class.
        sampler: `none` for the natural frequencies, `balanced` for equal ones, or `square_root` for square-root
            class-balanced sampling, which lies between the two (arXiv 1805.00932).

    Returns:
        float (C,), with sum 1; 0 for a class without images.
    """
    images = np.asarray(counts, float)
    weights = np.where(images > 0, images ** _SAMPLING_POWERS[sampler], 0.0)
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True)
class MaskDecoding:
    """Image and lesion mask in the network's square.

    Arrays are uint8, shapes (size, size, 3) and (size, size), the mask with values 0 and 1.
    """

    size: int

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the arrays of an example."""
        return {"image": (self.size, self.size, 3), "mask": (self.size, self.size)}

    def __call__(self, image_path: str, mask_path: str | None) -> Arrays:
        """Decode one example; it must have a mask."""
        image = resize_square(read_image(Path(image_path)), self.size)
        return image, resize_mask(read_mask(Path(str(mask_path))), self.size).astype(np.uint8)


@dataclass(frozen=True)
class CropDecoding:
    """Lesion crop by the box of the true mask.

    The array is uint8, shape (size, size, 3). An image without a mask is used whole, as in inference without a lesion.
    """

    size: int
    rule: CropRule

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of the array of an example."""
        return {"crop": (self.size, self.size, 3)}

    def __call__(self, image_path: str, mask_path: str | None) -> Arrays:
        """Decode one example."""
        image = read_image(Path(image_path))
        mask = np.ones(image.shape[:2], bool) if mask_path is None else read_mask(Path(mask_path))
        box = full_box(image) if mask_path is None else mask_box(mask)
        _, pixels = cut_lesion(image, mask, box, self.rule, size=self.size)
        return (pixels,)


class MaskDataset(Dataset[tuple[Tensor, Tensor]]):
    """Augmented images and lesion masks, see `MaskDecoding`.

    Each item is `(pixels, mask)`: uint8 (3, size, size) and float32 (1, size, size), 0 or 1.

    Args:
        table: Rows with `image_id`, `image_path` and `mask_path`.
        size: Side of the network's square, pixels.
        cache: Folder of decoded examples; None decodes at each access.
        augmentation: Random transforms; None for none.
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
    """Augmented lesion crops with labels, see `CropDecoding`.

    Each item is `(pixels, label)`: uint8 (3, size, size) and the index of the diagnosis; with `teacher_probs` also the
    probabilities of the image, which do not depend on the augmentation.

    Args:
        table: Rows with `image_id`, `image_path`, `mask_path`, which may be None, and `dx`.
        classes: Codes of the diagnoses, in the order of the labels.
        rule: Crop rule.
        size: Side of the network's square, pixels.
        cache: Folder of decoded examples; None decodes at each access.
        augmentation: Random transforms; None for none.
        teacher_probs: Probabilities of each row, float, shape (rows, classes); None without a teacher.
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
    """Convert an image to a tensor, uint8 (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
